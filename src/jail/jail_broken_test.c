/* jail_broken_test.c - the proof sees a jail that is wrong: this program's filters are on purpose those of another cell. */
#include "base/test.h"

#include <linux/seccomp.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/jail_internal.h"

/* In the place of install.c's: an engine gets the front's doors, and serving the filter of opening. */
int spark__jail_install(spark_jail_role role, spark_jail_phase phase)
{
    struct sock_filter code[JAIL_MAX_FILTER];
    (void)role;
    (void)phase;
    const struct sock_fprog program = {
        (unsigned short)spark__jail_filter(JAIL_ARCH_HERE, SPARK_JAIL_FRONT, SPARK_JAIL_OPENING, code), code};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

typedef struct seen {
    uint32_t n, n_wrong, n_wrong_entered;
    bool sleep_in_serving_engine, files; /* found wrong */
} seen;

static void on_trial(void *ctx, const spark_jail_trial *t)
{
    seen *s = ctx;
    s->n++;
    if (t->right) return;
    s->n_wrong++;
    if (t->phase == SPARK_JAIL_ENTERED) s->n_wrong_entered++;
    if (t->role == SPARK_JAIL_ENGINE && t->phase == SPARK_JAIL_SERVING && strcmp(t->act, "wait a moment") == 0)
        s->sleep_in_serving_engine = t->verdict == SPARK_JAIL_ALLOWED;
    if (strcmp(t->act, "open a file for reading") == 0) s->files = true;
}

static void test_the_proof_names_the_acts_that_a_wrong_filter_lets_through(void **state)
{
    (void)state;
    spark_jail_report r;
    spark_err err = {0};
    seen s = {0};
    uint32_t n_wrong = 0;
    assert_ok(spark_jail_probe(&r, &err));
    if (r.level == SPARK_JAIL_OFF) {
        print_message("not run: this system grants no jail\n");
        return;
    }
    if (!spark_ok(spark_jail_prove(r.level, on_trial, &s, &n_wrong, &err))) fail_msg("%s", err.text);
    assert_true(s.n > 100);
    assert_int_equal(s.n_wrong, n_wrong);
    assert_true(s.sleep_in_serving_engine); /* the front may, an engine that serves may not */
    assert_false(s.files);                  /* nobody may, so here nothing is wrong */
    assert_int_equal(s.n_wrong_entered, 0); /* before the filters */
}

int main(int argc, char **argv)
{
    spark_jail_spec spec;
    if (spark_jail_is_cell(argc, argv, &spec)) return 1; /* trials do not come back */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_proof_names_the_acts_that_a_wrong_filter_lets_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
