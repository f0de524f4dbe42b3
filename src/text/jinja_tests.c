/* jinja_tests.c - `value is test(argument)`: the tests of Jinja2. */
#include <string.h>
#include <utf8proc.h>

#include "text/jinja_internal.h"

#define TEST(name, expression)                                                                                         \
    static spark_status name(j_ctx *j, j_val v, const j_args *a, j_val *out)                                           \
    {                                                                                                                  \
        (void)j, (void)a;                                                                                              \
        *out = spark__j_bool(expression);                                                                              \
        return SPARK_SUCCESS;                                                                                          \
    }

static bool test_walks(j_val v)
{
    return v.type == J_UNDEFINED || (v.type >= J_STR && v.type <= J_ITER) || v.type == J_LOOP;
}

static bool test_same(j_val a, j_val b)
{
    if (a.type != b.type) return false;
    if (a.type == J_NONE) return true;
    if (a.type == J_BOOL) return a.u.b == b.u.b;
    if (a.type == J_INT) return a.u.i == b.u.i;
    return a.type != J_FLOAT && a.u.list == b.u.list;
}

TEST(test_boolean, v.type == J_BOOL)
TEST(test_callable, v.type == J_UNDEFINED || v.type == J_MACRO || v.type == J_FUNCTION || v.type == J_METHOD ||
                        v.type == J_LOOP || v.type == J_JOINER)
TEST(test_defined, v.type != J_UNDEFINED)
TEST(test_escaped, v.type == J_STR && v.u.s->markup)
TEST(test_false, v.type == J_BOOL && !v.u.b)
TEST(test_float, v.type == J_FLOAT)
TEST(test_integer, v.type == J_INT)
TEST(test_iterable, test_walks(v))
TEST(test_mapping, v.type == J_DICT)
TEST(test_none, v.type == J_NONE)
TEST(test_number, spark__j_is_number(v))
TEST(test_sameas, test_same(v, a->pos[0]))
TEST(test_sequence, v.type == J_UNDEFINED || (v.type >= J_STR && v.type <= J_RANGE))
TEST(test_string, v.type == J_STR)
TEST(test_true, v.type == J_BOOL && v.u.b)
TEST(test_undefined, v.type == J_UNDEFINED)
TEST(test_is_filter, v.type == J_STR && spark__j_filter(spark__j_bytes(v.u.s)))
TEST(test_is_test, v.type == J_STR && spark__j_test(spark__j_bytes(v.u.s)))

/* str(v).islower(), isupper(): one cased character at least, and none of the other case. */
static spark_status test_case(j_ctx *j, j_val v, bool upper, j_val *out)
{
    j_val s;
    bool cased = false, other = false;
    SPARK_TRY(spark__j_str_of(j, v, &s));
    SPARK_TRY(spark__j_steps(j, s.u.s->len / 8));
    for (j_chars c = spark__j_chars(s.u.s); spark__j_chars_next(&c);) {
        const bool up = utf8proc_isupper((utf8proc_int32_t)c.cp), low = utf8proc_islower((utf8proc_int32_t)c.cp);
        cased = cased || (upper ? up : low);
        other = other || (upper ? low : up);
    }
    *out = spark__j_bool(cased && !other);
    return SPARK_SUCCESS;
}

static spark_status test_lower(j_ctx *j, j_val v, const j_args *a, j_val *out)
{
    (void)a;
    return test_case(j, v, false, out);
}

static spark_status test_upper(j_ctx *j, j_val v, const j_args *a, j_val *out)
{
    (void)a;
    return test_case(j, v, true, out);
}

static spark_status test_modulo(j_ctx *j, j_val v, int64_t by, int64_t want, j_val *out)
{
    j_val rest;
    SPARK_TRY(spark__j_binary(j, JT_MOD, v, spark__j_int(by), &rest));
    bool same = false;
    SPARK_TRY(spark__j_equal(j, rest, spark__j_int(want), &same));
    *out = spark__j_bool(same);
    return SPARK_SUCCESS;
}

static spark_status test_even(j_ctx *j, j_val v, const j_args *a, j_val *out)
{
    (void)a;
    return test_modulo(j, v, 2, 0, out);
}

static spark_status test_odd(j_ctx *j, j_val v, const j_args *a, j_val *out)
{
    (void)a;
    return test_modulo(j, v, 2, 1, out);
}

static spark_status test_divisibleby(j_ctx *j, j_val v, const j_args *a, j_val *out)
{
    if (!spark__j_is_integer(a->pos[0])) return spark__j_fail(j, SPARK_E_FORMAT, "divisibleby needs an integer");
    return test_modulo(j, v, spark__j_integer(a->pos[0]), 0, out);
}

static spark_status test_in(j_ctx *j, j_val v, const j_args *a, j_val *out)
{
    bool found = false;
    SPARK_TRY(spark__j_contains(j, a->pos[0], v, &found));
    *out = spark__j_bool(found);
    return SPARK_SUCCESS;
}

static spark_status test_order(j_ctx *j, j_val a, j_val b, bool or_equal, const char *op, j_val *out)
{
    bool less = false, same = false;
    SPARK_TRY(spark__j_less(j, a, b, op, &less));
    if (or_equal && !less) SPARK_TRY(spark__j_equal(j, a, b, &same));
    *out = spark__j_bool(less || same);
    return SPARK_SUCCESS;
}

static spark_status test_eq(j_ctx *j, j_val v, const j_args *a, j_val *out)
{
    bool same = false;
    SPARK_TRY(spark__j_equal(j, v, a->pos[0], &same));
    *out = spark__j_bool(same);
    return SPARK_SUCCESS;
}

static spark_status test_ne(j_ctx *j, j_val v, const j_args *a, j_val *out)
{
    SPARK_TRY(test_eq(j, v, a, out));
    out->u.b = !out->u.b;
    return SPARK_SUCCESS;
}

static spark_status test_lt(j_ctx *j, j_val v, const j_args *a, j_val *out)
{
    return test_order(j, v, a->pos[0], false, "<", out);
}

static spark_status test_le(j_ctx *j, j_val v, const j_args *a, j_val *out)
{
    return test_order(j, v, a->pos[0], true, "<=", out);
}

static spark_status test_gt(j_ctx *j, j_val v, const j_args *a, j_val *out)
{
    return test_order(j, a->pos[0], v, false, ">", out);
}

static spark_status test_ge(j_ctx *j, j_val v, const j_args *a, j_val *out)
{
    return test_order(j, a->pos[0], v, true, ">=", out);
}

static const j_builtin test_table[] = {
    {"!=", test_ne, "other", 1},
    {"<", test_lt, "other", 1},
    {"<=", test_le, "other", 1},
    {"==", test_eq, "other", 1},
    {">", test_gt, "other", 1},
    {">=", test_ge, "other", 1},
    {"boolean", test_boolean, "", 0},
    {"callable", test_callable, "", 0},
    {"defined", test_defined, "", 0},
    {"divisibleby", test_divisibleby, "num", 1},
    {"eq", test_eq, "other", 1},
    {"equalto", test_eq, "other", 1},
    {"escaped", test_escaped, "", 0},
    {"even", test_even, "", 0},
    {"false", test_false, "", 0},
    {"filter", test_is_filter, "", 0},
    {"float", test_float, "", 0},
    {"ge", test_ge, "other", 1},
    {"greaterthan", test_gt, "other", 1},
    {"gt", test_gt, "other", 1},
    {"in", test_in, "seq", 1},
    {"integer", test_integer, "", 0},
    {"iterable", test_iterable, "", 0},
    {"le", test_le, "other", 1},
    {"lessthan", test_lt, "other", 1},
    {"lower", test_lower, "", 0},
    {"lt", test_lt, "other", 1},
    {"mapping", test_mapping, "", 0},
    {"ne", test_ne, "other", 1},
    {"none", test_none, "", 0},
    {"number", test_number, "", 0},
    {"odd", test_odd, "", 0},
    {"sameas", test_sameas, "other", 1},
    {"sequence", test_sequence, "", 0},
    {"string", test_string, "", 0},
    {"test", test_is_test, "", 0},
    {"true", test_true, "", 0},
    {"undefined", test_undefined, "", 0},
    {"upper", test_upper, "", 0},
};

const j_builtin *spark__j_test(spark_bytes name) { return spark__j_find(test_table, SPARK_COUNT(test_table), name); }
