/* jail_rules_test.c - the filters do what the table says: each is run in an emulator of classic BPF, for both architectures, every
 * role and phase, over all numbers and at the borders of every condition. And the table says what was promised: some rows are pinned
 * here by hand, because a filter that follows a wrong table is wrong. */
#include "base/test.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <string.h>

#include "jail/jail_internal.h"

enum { NUMBERS = 601, X32 = 0x40000000 };

/* ---- The emulator: the instructions that seccomp knows and we use; anything else, or leaving the program, is a failure ---- */

static uint32_t emulate(const struct sock_filter *code, uint32_t n, const struct seccomp_data *data)
{
    uint32_t a = 0;
    for (uint32_t pc = 0; pc < n; pc++) {
        const struct sock_filter *i = &code[pc];
        bool yes;
        switch (i->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            assert_true(i->k % 4 == 0 && i->k + 4 <= sizeof *data);
            memcpy(&a, (const uint8_t *)data + i->k, 4);
            continue;
        case BPF_ALU | BPF_AND | BPF_K: a &= i->k; continue;
        case BPF_JMP | BPF_JEQ | BPF_K: yes = a == i->k; break;
        case BPF_JMP | BPF_JGE | BPF_K: yes = a >= i->k; break;
        case BPF_RET | BPF_K: return i->k;
        default: fail_msg("instruction %u has code %#x", pc, i->code); return 0;
        }
        pc += yes ? i->jt : i->jf;
    }
    fail_msg("the program of %u instructions has no end", n);
    return 0;
}

typedef struct filter {
    spark_jail_arch arch;
    spark_jail_role role;
    spark_jail_phase phase;
    uint32_t n;
    struct sock_filter code[JAIL_MAX_FILTER];
} filter;

static uint32_t audit_arch(spark_jail_arch arch)
{
    return arch == SPARK_JAIL_X86_64 ? AUDIT_ARCH_X86_64 : AUDIT_ARCH_AARCH64;
}

static bool is_kill(uint32_t action)
{
#ifdef SPARK_SANITIZED
    return action == SECCOMP_RET_TRAP;
#else
    return action == SECCOMP_RET_KILL_PROCESS;
#endif
}

static uint32_t run(const filter *f, uint32_t arch, uint32_t number, const uint64_t args[6])
{
    struct seccomp_data data = {.nr = (int)number, .arch = arch, .instruction_pointer = 0x123456789abcdef0};
    memcpy(data.args, args, sizeof data.args);
    return emulate(f->code, f->n, &data);
}

static void each_filter(void (*test)(const filter *f))
{
    static filter f;
    for (f.arch = 0; f.arch < SPARK_JAIL_N_ARCHS; f.arch++)
        for (f.role = 0; f.role < SPARK_JAIL_N_ROLES; f.role++)
            for (f.phase = 0; f.phase < SPARK_JAIL_N_PHASES; f.phase++) {
                if (!spark_jail_has_phase(f.role, f.phase)) continue;
                f.n = spark__jail_filter(f.arch, f.role, f.phase, f.code);
                test(&f);
            }
}

/* The filter's verdict on one call is the table's. */
static void agree(const filter *f, int32_t number, const uint64_t args[6])
{
    int deny = 0;
    const uint32_t action = run(f, audit_arch(f->arch), (uint32_t)number, args);
    const spark_jail_effect effect = spark_jail_judge(f->arch, f->role, f->phase, number, args, &deny);
    const bool same = effect == SPARK_JAIL_KILL    ? is_kill(action)
                      : effect == SPARK_JAIL_ALLOW ? action == SECCOMP_RET_ALLOW
                                                   : action == (SECCOMP_RET_ERRNO | (uint32_t)deny);
    if (!same)
        fail_msg("%s, %s, call %d (%#llx %#llx %#llx %#llx %#llx): table %d, filter %#x", spark_jail_role_name(f->role),
                 spark_jail_phase_name(f->phase), number, (unsigned long long)args[0], (unsigned long long)args[1],
                 (unsigned long long)args[2], (unsigned long long)args[3], (unsigned long long)args[4], (int)effect,
                 action);
}

/* ---- Numbers ---- */

static void all_numbers_agree(const filter *f)
{
    static const uint64_t all_args[][6] = {
        {0}, {1, 1, 1, 1, 1, 1}, {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};
    for (int32_t number = 0; number < NUMBERS; number++)
        for (size_t i = 0; i < SPARK_COUNT(all_args); i++) agree(f, number, all_args[i]);
}

static void test_every_number_is_judged_as_the_table_says(void **state)
{
    (void)state;
    each_filter(all_numbers_agree);
}

static void strange_numbers_die(const filter *f)
{
    static const uint64_t args[6] = {0};
    for (uint32_t number = 0; number < NUMBERS; number++)
        assert_true(is_kill(run(f, audit_arch(f->arch), X32 | number, args)));
    const uint32_t strange[] = {0x3fffffff, 0x40000000, 0x7fffffff, 0x80000000, 0xffffffff, 1u << 20};
    for (size_t i = 0; i < SPARK_COUNT(strange); i++)
        assert_true(is_kill(run(f, audit_arch(f->arch), strange[i], args)));
}

static void test_x32_and_unknown_numbers_die(void **state)
{
    (void)state;
    each_filter(strange_numbers_die);
}

static void foreign_calls_die(const filter *f)
{
    static const uint64_t args[6] = {0};
    const uint32_t foreign[] = {audit_arch(f->arch == SPARK_JAIL_X86_64 ? SPARK_JAIL_AARCH64 : SPARK_JAIL_X86_64),
                                AUDIT_ARCH_I386, AUDIT_ARCH_ARM, 0};
    for (size_t i = 0; i < SPARK_COUNT(foreign); i++)
        for (uint32_t number = 0; number < NUMBERS; number++) assert_true(is_kill(run(f, foreign[i], number, args)));
}

static void test_calls_of_another_architecture_die(void **state)
{
    (void)state;
    each_filter(foreign_calls_die);
}

/* ---- Arguments ---- */

/* Arguments that meet a clause; what it does not look at is `rest`. */
static void satisfy(const spark_jail_clause *c, uint64_t rest, uint64_t args[6])
{
    for (int i = 0; i < 6; i++) args[i] = rest;
    for (uint8_t i = 0; i < c->n_tests; i++) args[c->tests[i].arg] = 0;
    for (uint8_t i = 0; i < c->n_tests; i++) args[c->tests[i].arg] |= c->tests[i].value | (rest & ~c->tests[i].mask);
}

/* On the border: the clause met, each bit of each tested argument turned, the number before and behind, and zero and all ones. */
static void clause_agrees(const filter *f, int32_t number, const spark_jail_clause *c)
{
    static const uint64_t rests[] = {0, UINT64_MAX, 0x5555555555555555, 0xffffffff00000000};
    for (size_t r = 0; r < SPARK_COUNT(rests); r++) {
        uint64_t args[6];
        satisfy(c, rests[r], args);
        agree(f, number, args);
        for (uint8_t t = 0; t < c->n_tests; t++) {
            uint64_t *arg = &args[c->tests[t].arg];
            const uint64_t met = *arg;
            for (int bit = 0; bit < 64; bit++) {
                *arg = met ^ UINT64_C(1) << bit;
                agree(f, number, args);
            }
            const uint64_t near[] = {met - 1, met + 1, 0, UINT64_MAX, met << 32, met >> 32};
            for (size_t i = 0; i < SPARK_COUNT(near); i++) {
                *arg = near[i];
                agree(f, number, args);
            }
            *arg = met;
        }
    }
}

static void arguments_agree(const filter *f)
{
    uint32_t n = 0;
    const spark_jail_rule *rules = spark_jail_rules(&n);
    for (uint32_t i = 0; i < n; i++)
        if (rules[i].condition && rules[i].number[f->arch] >= 0)
            for (uint8_t c = 0; c < rules[i].condition->n_clauses; c++)
                clause_agrees(f, rules[i].number[f->arch], &rules[i].condition->clauses[c]);
}

static void test_arguments_are_judged_as_the_table_says_at_every_border(void **state)
{
    (void)state;
    each_filter(arguments_agree);
}

static void random_calls_agree(const filter *f)
{
    uint64_t x = 0x9e3779b97f4a7c15; /* xorshift: the same calls in every run */
    for (int i = 0; i < 20000; i++) {
        uint64_t args[6];
        for (int a = 0; a < 6; a++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            args[a] = x % 3 ? x & 0x3f : x;
        }
        agree(f, (int32_t)(x >> 20) % NUMBERS, args);
    }
}

static void test_random_calls_are_judged_as_the_table_says(void **state)
{
    (void)state;
    each_filter(random_calls_agree);
}

/* ---- What the table itself must say ---- */

static void test_no_call_stands_twice_in_the_table(void **state)
{
    (void)state;
    uint32_t n = 0;
    const spark_jail_rule *rules = spark_jail_rules(&n);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < i; j++)
            for (int a = 0; a < SPARK_JAIL_N_ARCHS; a++) {
                assert_string_not_equal(rules[i].syscall, rules[j].syscall);
                if (rules[i].number[a] >= 0) assert_int_not_equal(rules[i].number[a], rules[j].number[a]);
            }
}

static void test_every_row_has_someone_who_needs_it(void **state)
{
    (void)state;
    uint32_t n = 0;
    const spark_jail_rule *rules = spark_jail_rules(&n);
    for (uint32_t i = 0; i < n; i++) {
        bool needed = false;
        for (int r = 0; r < SPARK_JAIL_N_ROLES; r++)
            for (int p = 0; p < SPARK_JAIL_N_PHASES; p++) needed |= rules[i].effect[r][p] != SPARK_JAIL_KILL;
        assert_true(needed && rules[i].reason && *rules[i].reason);
        assert_true(!rules[i].condition || (rules[i].condition->n_clauses > 0 && *rules[i].condition->words));
        for (uint8_t c = 0; rules[i].condition && c < rules[i].condition->n_clauses; c++)
            for (uint8_t t = 0; t < rules[i].condition->clauses[c].n_tests; t++) {
                const spark_jail_test *test = &rules[i].condition->clauses[c].tests[t];
                assert_int_equal(test->value & ~test->mask, 0); /* else it could never be met */
            }
    }
}

static void test_what_serving_allows_opening_allows_too(void **state)
{
    (void)state;
    uint32_t n = 0;
    const spark_jail_rule *rules = spark_jail_rules(&n);
    for (uint32_t i = 0; i < n; i++) /* the filters lie one upon the other: more in the second would be a lie */
        for (int r = 0; r < SPARK_JAIL_N_ROLES; r++)
            if (rules[i].effect[r][SPARK_JAIL_SERVING] == SPARK_JAIL_ALLOW)
                assert_int_equal(rules[i].effect[r][SPARK_JAIL_OPENING], SPARK_JAIL_ALLOW);
}

#ifndef SPARK_SANITIZED
static void allows_only(spark_jail_role role, spark_jail_phase phase, const char *const *wanted, size_t n_wanted)
{
    uint32_t n = 0, found = 0;
    const spark_jail_rule *rules = spark_jail_rules(&n);
    for (uint32_t i = 0; i < n; i++) {
        if (rules[i].effect[role][phase] != SPARK_JAIL_ALLOW) continue;
        bool is_wanted = false;
        for (size_t w = 0; w < n_wanted; w++) is_wanted |= strcmp(rules[i].syscall, wanted[w]) == 0;
        if (!is_wanted) fail_msg("%s is allowed", rules[i].syscall);
        found++;
    }
    assert_int_equal(found, n_wanted);
}

static void test_a_serving_engine_has_these_calls_and_no_other(void **state)
{
    (void)state;
    static const char *const wanted[] = {"futex",        "read",  "write",         "readv",       "writev",
                                         "poll",         "ppoll", "clock_gettime", "sched_yield", "restart_syscall",
                                         "rt_sigreturn", "exit",  "exit_group"};
    uint32_t n = 0;
    const spark_jail_rule *rules = spark_jail_rules(&n);
    allows_only(SPARK_JAIL_ENGINE, SPARK_JAIL_SERVING, wanted, SPARK_COUNT(wanted));
    for (uint32_t i = 0; i < n; i++)
        assert_int_not_equal(rules[i].effect[SPARK_JAIL_ENGINE][SPARK_JAIL_SERVING], SPARK_JAIL_DENY);
}

static void test_a_tool_has_these_calls_and_no_other(void **state)
{
    (void)state;
    static const char *const wanted[] = {
        "futex",        "read",       "write",          "clock_gettime", "sched_yield", "restart_syscall",
        "rt_sigreturn", "exit",       "close",          "mmap",          "munmap",      "mremap",
        "brk",          "madvise",    "mprotect",       "lseek",         "getrandom",   "getrusage",
        "pread64",      "fstat",      "sysinfo",        "clone",         "rseq",        "set_robust_list",
        "gettid",       "exit_group", "rt_sigprocmask", "rt_sigaction",  "arch_prctl",  "sched_getaffinity"};
    allows_only(SPARK_JAIL_TOOL, SPARK_JAIL_OPENING, wanted, SPARK_COUNT(wanted));
}

/* By number, so that a slip in the table's numbers shows: calls of x86-64 and aarch64 that no cell ever makes. */
static void test_no_cell_makes_processes_sockets_or_files(void **state)
{
    (void)state;
    static const int never[][2] = {
        {2, -1},    {257, 56},  {437, 437},    {85, -1},   {59, 221},  {322, 281}, {57, -1},   {58, -1},   {41, 198},
        {42, 203},  {49, 200},  {50, 201},     {53, 199},  {101, 117}, {310, 270}, {311, 271}, {62, 129},  {200, 130},
        {234, 131}, {165, 40},  {166, 39},     {272, 97},  {308, 268}, {321, 280}, {425, 425}, {426, 426}, {427, 427},
        {323, 282}, {298, 241}, {248, 217},    {249, 218}, {250, 219}, {319, 279}, {87, -1},   {263, 35},  {90, -1},
        {268, 53},  {105, 146}, {106, 144},    {117, 147}, {40, 71},   {438, 438}, {434, 434}, {424, 424}, {462, 462},
        {155, 41},  {161, 51},  {175, 105},    {313, 273}, {169, 142}, {303, 264}, {304, 265}, {446, 446}, {32, 23},
        {292, 24},  {299, 243}, {307, 269},    {77, 46},   {285, 47},  {332, 291}, {89, -1},   {267, 78},  {79, 17},
        {217, 61},  {80, 49},   {10000, 10000}};
    static const uint64_t zero[6] = {0}, ones[6] = {1, 1, 1, 1, 1, 1};
    for (int a = 0; a < SPARK_JAIL_N_ARCHS; a++)
        for (size_t i = 0; i < SPARK_COUNT(never); i++)
            for (spark_jail_role role = 0; role < SPARK_JAIL_N_ROLES; role++)
                for (spark_jail_phase phase = 0; phase < SPARK_JAIL_N_PHASES; phase++) {
                    const spark_jail_arch arch = (spark_jail_arch)a;
                    if (spark_jail_judge(arch, role, phase, never[i][a], zero, NULL) != SPARK_JAIL_KILL ||
                        spark_jail_judge(arch, role, phase, never[i][a], ones, NULL) != SPARK_JAIL_KILL)
                        fail_msg("call %d of architecture %d is allowed", never[i][a], a);
                }
}

/* mmap by hand: 9 on x86-64. PROT_EXEC 4, MAP_SHARED 1, MAP_PRIVATE 2, MAP_ANONYMOUS 32. */
static void test_memory_is_never_executable_shared_or_of_a_file(void **state)
{
    (void)state;
    const uint64_t good[6] = {0, 4096, 3, 0x22, 0xffffffff, 0}, glibc[6] = {0, 4096, 0, 0x4022, UINT64_MAX, 0};
    const uint64_t exec[6] = {0, 4096, 5, 0x22, 0xffffffff, 0}, shared[6] = {0, 4096, 3, 0x21, 0xffffffff, 0};
    const uint64_t file[6] = {0, 4096, 1, 2, 3, 0}, anonymous_with_file[6] = {0, 4096, 3, 0x22, 3, 0};
    for (spark_jail_role role = 0; role < SPARK_JAIL_N_ROLES; role++) {
        assert_int_equal(spark_jail_judge(SPARK_JAIL_X86_64, role, SPARK_JAIL_OPENING, 9, good, NULL),
                         SPARK_JAIL_ALLOW);
        assert_int_equal(spark_jail_judge(SPARK_JAIL_X86_64, role, SPARK_JAIL_OPENING, 9, glibc, NULL),
                         SPARK_JAIL_ALLOW);
        assert_int_equal(spark_jail_judge(SPARK_JAIL_X86_64, role, SPARK_JAIL_OPENING, 9, exec, NULL), SPARK_JAIL_KILL);
        assert_int_equal(spark_jail_judge(SPARK_JAIL_X86_64, role, SPARK_JAIL_OPENING, 9, shared, NULL),
                         SPARK_JAIL_KILL);
        assert_int_equal(spark_jail_judge(SPARK_JAIL_X86_64, role, SPARK_JAIL_OPENING, 9, file, NULL), SPARK_JAIL_KILL);
        assert_int_equal(spark_jail_judge(SPARK_JAIL_X86_64, role, SPARK_JAIL_OPENING, 9, anonymous_with_file, NULL),
                         SPARK_JAIL_KILL);
    }
}
#endif

/* ---- Programs that are wrong on purpose: the comparison must see it ---- */

static uint32_t n_wrong;

static void count_wrong(const filter *f)
{
    static const uint64_t args[6] = {0};
    for (int32_t number = 0; number < NUMBERS; number++) {
        const uint32_t action = run(f, audit_arch(f->arch), (uint32_t)number, args);
        const spark_jail_effect effect = spark_jail_judge(f->arch, f->role, f->phase, number, args, NULL);
        n_wrong += (effect == SPARK_JAIL_ALLOW) != (action == SECCOMP_RET_ALLOW);
    }
}

static void one_jump_off_shows(const filter *f)
{
    static filter broken;
    broken = *f;
    n_wrong = 0;
    for (uint32_t i = 6; i < f->n; i++) /* behind the head: the first question about a number */
        if (f->code[i].code == (BPF_JMP | BPF_JEQ | BPF_K) && f->code[i + 1].code == (BPF_RET | BPF_K)) {
            broken.code[i].jt = 1;
            break;
        }
    count_wrong(&broken);
    assert_true(n_wrong > 0);
}

static void test_a_jump_that_is_off_by_one_would_be_seen(void **state)
{
    (void)state;
    each_filter(one_jump_off_shows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_number_is_judged_as_the_table_says),
        cmocka_unit_test(test_x32_and_unknown_numbers_die),
        cmocka_unit_test(test_calls_of_another_architecture_die),
        cmocka_unit_test(test_arguments_are_judged_as_the_table_says_at_every_border),
        cmocka_unit_test(test_random_calls_are_judged_as_the_table_says),
        cmocka_unit_test(test_no_call_stands_twice_in_the_table),
        cmocka_unit_test(test_every_row_has_someone_who_needs_it),
        cmocka_unit_test(test_what_serving_allows_opening_allows_too),
#ifndef SPARK_SANITIZED
        cmocka_unit_test(test_a_serving_engine_has_these_calls_and_no_other),
        cmocka_unit_test(test_a_tool_has_these_calls_and_no_other),
        cmocka_unit_test(test_no_cell_makes_processes_sockets_or_files),
        cmocka_unit_test(test_memory_is_never_executable_shared_or_of_a_file),
#endif
        cmocka_unit_test(test_a_jump_that_is_off_by_one_would_be_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
