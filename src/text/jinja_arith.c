/* jinja_arith.c - what + - * / // % ** mean, for every pair of types, as in Python. Integers have 64 bits: a result that
 * does not fit is an error, never a wrong number. */
#include "text/jinja_internal.h"

#define TWO_TO_63 9223372036854775808.0

static spark_status arith_overflow(j_ctx *j)
{
    return spark__j_fail(j, SPARK_E_LIMIT, "integer needs more than 64 bits");
}

static spark_status arith_div_zero(j_ctx *j) { return spark__j_fail(j, SPARK_E_FORMAT, "division by zero"); }

static spark_status arith_pow(j_ctx *j, int64_t base, int64_t exponent, j_val *out)
{
    int64_t r = 1;
    if (exponent < 0 && base == 0) return arith_div_zero(j);
    const uint64_t n = exponent < 0 ? 0 - (uint64_t)exponent : (uint64_t)exponent;
    for (uint64_t i = 0; i < n && base != 1 && base != 0; i++) {
        if (base == -1) {
            r = n % 2 ? -1 : 1;
            break;
        }
        if (__builtin_mul_overflow(r, base, &r)) return arith_overflow(j);
    }
    if (base == 0 && n > 0) r = 0;
    *out = exponent < 0 ? spark__j_float(1.0 / (double)r) : spark__j_int(r);
    return SPARK_SUCCESS;
}

static spark_status arith_ints(j_ctx *j, j_tok op, int64_t a, int64_t b, j_val *out)
{
    int64_t r = 0;
    bool over = false;
    if ((op == JT_DIV || op == JT_FLOORDIV || op == JT_MOD) && b == 0) return arith_div_zero(j);
    if (op == JT_POW) return arith_pow(j, a, b, out);
    if (op == JT_DIV) {
        *out = spark__j_float((double)a / (double)b);
        return SPARK_SUCCESS;
    }
    if (op == JT_ADD) over = __builtin_add_overflow(a, b, &r);
    if (op == JT_SUB) over = __builtin_sub_overflow(a, b, &r);
    if (op == JT_MUL) over = __builtin_mul_overflow(a, b, &r);
    if (op == JT_FLOORDIV || op == JT_MOD) {
        if (b == -1) { /* INT64_MIN / -1 traps */
            over = op == JT_FLOORDIV && __builtin_sub_overflow((int64_t)0, a, &r);
        } else {
            const int64_t q = a / b, m = a % b;
            const bool down = m != 0 && (m < 0) != (b < 0); /* towards minus infinity */
            r = op == JT_FLOORDIV ? q - down : down ? m + b : m;
        }
    }
    if (over) return arith_overflow(j);
    *out = spark__j_int(r);
    return SPARK_SUCCESS;
}

static double arith_floor(double f)
{
    if (!(f > -TWO_TO_63 && f < TWO_TO_63)) return f; /* has no fraction, or is not finite */
    const double t = (double)(int64_t)f;
    return t > f ? t - 1 : t;
}

/* fmod without libm: subtracts the largest doublings of b that fit; each subtraction is exact. a >= 0, b > 0, finite. */
static double arith_fmod(double a, double b)
{
    double t = b;
    while (t <= a / 2) t *= 2;
    for (; t >= b; t /= 2)
        if (a >= t) a -= t;
    return a;
}

static double arith_mod(double a, double b)
{
    if (!(b - b == 0)) return a - a == 0 ? ((a < 0) == (b < 0) || a == 0 ? a : b) : a - a;
    double m = arith_fmod(a < 0 ? -a : a, b < 0 ? -b : b);
    if (a < 0) m = -m;
    if (m == 0) return b < 0 ? -0.0 : 0.0; /* the sign of the divisor, as in Python */
    return (m < 0) != (b < 0) ? m + b : m;
}

static spark_status arith_floats(j_ctx *j, j_tok op, double a, double b, j_val *out)
{
    if ((op == JT_DIV || op == JT_FLOORDIV || op == JT_MOD) && b == 0) return arith_div_zero(j);
    if (op == JT_POW) {
        double r = 1;
        if (b != arith_floor(b) || b < 0 || b > 1024)
            return spark__j_fail(j, SPARK_E_FORMAT, "this power of a float is not supported");
        for (int i = (int)b; i > 0; i--) r *= a;
        if (r - r != 0 && a - a == 0) return spark__j_fail(j, SPARK_E_FORMAT, "result of ** is too large");
        *out = spark__j_float(r);
        return SPARK_SUCCESS;
    }
    if ((op == JT_MOD || op == JT_FLOORDIV) && a - a != 0) {
        *out = spark__j_float(a - a); /* NaN */
        return SPARK_SUCCESS;
    }
    const double r = op == JT_ADD   ? a + b
                     : op == JT_SUB ? a - b
                     : op == JT_MUL ? a * b
                     : op == JT_DIV ? a / b
                     : op == JT_MOD ? arith_mod(a, b)
                                    : arith_floor((a - arith_mod(a, b)) / b + 0.25); /* an integer but for rounding */
    *out = spark__j_float(r);
    return SPARK_SUCCESS;
}

/* text + text; with markup on one side, the other is escaped first. */
static spark_status arith_add_str(j_ctx *j, const j_str *a, const j_str *b, j_val *out)
{
    j_val escaped;
    if (a->markup != b->markup) {
        SPARK_TRY(spark__j_escape(j, a->markup ? b : a, &escaped));
        if (a->markup)
            b = escaped.u.s;
        else
            a = escaped.u.s;
    }
    return spark__j_str_concat(j, a, b, out);
}

static spark_status arith_add_list(j_ctx *j, j_val a, j_val b, j_val *out)
{
    const size_t n = a.u.list->n + b.u.list->n;
    SPARK_TRY(spark__j_steps(j, n / 8));
    SPARK_TRY(spark__j_list_new(j, a.type, n, out));
    for (size_t i = 0; i < a.u.list->n; i++) out->u.list->items[i] = a.u.list->items[i];
    for (size_t i = 0; i < b.u.list->n; i++) out->u.list->items[a.u.list->n + i] = b.u.list->items[i];
    out->u.list->foreign = a.u.list->foreign || b.u.list->foreign;
    return SPARK_SUCCESS;
}

/* Refused before it is tried: what could not fit anyway. */
static spark_status arith_repeat(j_ctx *j, j_val v, int64_t times, j_val *out)
{
    const uint64_t n = times > 0 ? (uint64_t)times : 0;
    const size_t one = v.type == J_STR ? v.u.s->len : v.u.list->n;
    const size_t size = v.type == J_STR ? 1 : sizeof(j_val);
    if (one && n > SPARK_MAX_TEMPLATE_OUTPUT / size / one)
        return spark__j_fail(j, SPARK_E_LIMIT, "repetition is longer than %u bytes", SPARK_MAX_TEMPLATE_OUTPUT);
    if (v.type != J_STR) {
        const size_t all = one * n;
        SPARK_TRY(spark__j_steps(j, all / 8));
        SPARK_TRY(spark__j_list_new(j, v.type, all, out));
        for (size_t i = 0; i < all; i++) out->u.list->items[i] = v.u.list->items[i % one];
        out->u.list->foreign = v.u.list->foreign;
        return SPARK_SUCCESS;
    }
    j_text *t = NULL;
    SPARK_TRY(spark__j_text_new(j, one * n, &t));
    for (uint64_t i = 0; i < n && one; i++) {
        SPARK_TRY(spark__j_steps(j, 1));
        SPARK_TRY(spark__j_text_str(j, t, v.u.s));
    }
    return spark__j_text_done(j, t, out);
}

static spark_status arith_unsupported(j_ctx *j, j_tok op, j_val a, j_val b)
{
    static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};
    if (a.type == J_UNDEFINED) return spark__j_fail_undefined(j, a);
    if (b.type == J_UNDEFINED) return spark__j_fail_undefined(j, b);
    if (op == JT_ADD && (a.type == J_STR || a.type == J_LIST || a.type == J_TUPLE))
        return spark__j_fail(j, SPARK_E_FORMAT, "can only concatenate %s (not \"%s\") to %s", spark__j_type_name(a),
                             spark__j_type_name(b), spark__j_type_name(a));
    return spark__j_fail(j, SPARK_E_FORMAT, "unsupported operand type(s) for %s: '%s' and '%s'", signs[op - JT_ADD],
                         spark__j_type_name(a), spark__j_type_name(b));
}

static bool arith_repeats(j_val v) { return v.type == J_STR || v.type == J_LIST || v.type == J_TUPLE; }

spark_status spark__j_binary(j_ctx *j, j_tok op, j_val a, j_val b, j_val *out)
{
    if (op == JT_MOD && a.type == J_STR) return spark__j_percent(j, a.u.s, b, out);
    if (spark__j_is_number(a) && spark__j_is_number(b)) {
        if (spark__j_is_integer(a) && spark__j_is_integer(b))
            return arith_ints(j, op, spark__j_integer(a), spark__j_integer(b), out);
        return arith_floats(j, op, spark__j_double(a), spark__j_double(b), out);
    }
    if (op == JT_ADD && a.type == J_STR && b.type == J_STR) return arith_add_str(j, a.u.s, b.u.s, out);
    if (op == JT_ADD && a.type == b.type && (a.type == J_LIST || a.type == J_TUPLE))
        return arith_add_list(j, a, b, out);
    if (op == JT_MUL && arith_repeats(a) && spark__j_is_integer(b)) return arith_repeat(j, a, spark__j_integer(b), out);
    if (op == JT_MUL && arith_repeats(b) && spark__j_is_integer(a)) return arith_repeat(j, b, spark__j_integer(a), out);
    return arith_unsupported(j, op, a, b);
}
