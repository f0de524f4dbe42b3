/* filter.c - the table as a program for seccomp (classic BPF).
 * Shape: a head that ends calls of a foreign architecture and x32 numbers; for each row that is not KILL, "is it this number?" and
 * behind it a block that always returns; at the end KILL. So a jump never leaves its block, and no offset can be wrong unseen:
 * jail_test runs the program in an emulator over all numbers and compares with the table. */
#include <assert.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stddef.h>

#include "jail/jail_internal.h"

#ifdef SPARK_SANITIZED
#define FILTER_KILL SECCOMP_RET_TRAP /* such builds have a handler that names the call (enter.c) */
#else
#define FILTER_KILL SECCOMP_RET_KILL_PROCESS
#endif

enum { FILTER_X32_BIT = 0x40000000, FILTER_MAX_BLOCK = 255 };

typedef struct filter_out {
    struct sock_filter *code;
    uint32_t n;
} filter_out;

static void filter_put(filter_out *o, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
    assert(o->n < JAIL_MAX_FILTER);
    o->code[o->n++] = (struct sock_filter){code, jt, jf, k};
}

static void filter_load(filter_out *o, size_t offset)
{
    filter_put(o, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void filter_return(filter_out *o, uint32_t action) { filter_put(o, BPF_RET | BPF_K, action, 0, 0); }

/* One half of an argument; a mismatch jumps to the end of the clause, patched there (jf = 0 marks it, which a test never has else:
 * a mismatch always has at least one instruction to skip). */
static void filter_half(filter_out *o, size_t offset, uint32_t mask, uint32_t value)
{
    if (mask == 0) return;
    filter_load(o, offset);
    if (mask != UINT32_MAX) filter_put(o, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
    filter_put(o, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 0);
}

/* Falls through (to the next clause, or to KILL) if a test fails. Both architectures are little-endian. */
static void filter_clause(filter_out *o, const spark_jail_clause *c)
{
    const uint32_t begin = o->n;
    for (uint8_t i = 0; i < c->n_tests; i++) {
        const spark_jail_test *t = &c->tests[i];
        const size_t at = offsetof(struct seccomp_data, args) + t->arg * sizeof(uint64_t);
        filter_half(o, at, (uint32_t)t->mask, (uint32_t)t->value);
        filter_half(o, at + 4, (uint32_t)(t->mask >> 32), (uint32_t)(t->value >> 32));
    }
    filter_return(o, SECCOMP_RET_ALLOW);
    for (uint32_t i = begin; i < o->n; i++)
        if (o->code[i].code == (BPF_JMP | BPF_JEQ | BPF_K)) o->code[i].jf = (uint8_t)(o->n - i - 1);
    assert(o->n - begin <= FILTER_MAX_BLOCK);
}

static void filter_row(filter_out *o, const spark_jail_rule *r, int32_t number, spark_jail_effect effect)
{
    const uint32_t question = o->n;
    filter_put(o, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 0);
    if (effect == SPARK_JAIL_DENY)
        filter_return(o, SECCOMP_RET_ERRNO | (uint32_t)r->deny_errno);
    else if (!r->condition)
        filter_return(o, SECCOMP_RET_ALLOW);
    else {
        for (uint8_t i = 0; i < r->condition->n_clauses; i++) filter_clause(o, &r->condition->clauses[i]);
        filter_return(o, FILTER_KILL);
    }
    assert(o->n - question - 1 <= FILTER_MAX_BLOCK);
    o->code[question].jf = (uint8_t)(o->n - question - 1);
}

uint32_t spark__jail_filter(spark_jail_arch arch, spark_jail_role role, spark_jail_phase phase,
                            struct sock_filter out[JAIL_MAX_FILTER])
{
    filter_out o = {out, 0};
    filter_load(&o, offsetof(struct seccomp_data, arch));
    filter_put(&o, BPF_JMP | BPF_JEQ | BPF_K, arch == SPARK_JAIL_X86_64 ? AUDIT_ARCH_X86_64 : AUDIT_ARCH_AARCH64, 1, 0);
    filter_return(&o, FILTER_KILL);
    filter_load(&o, offsetof(struct seccomp_data, nr));
    filter_put(&o, BPF_JMP | BPF_JGE | BPF_K, FILTER_X32_BIT, 0, 1);
    filter_return(&o, FILTER_KILL);
    uint32_t n = 0;
    const spark_jail_rule *rules = spark_jail_rules(&n);
    for (uint32_t i = 0; i < n; i++)
        if (rules[i].number[arch] >= 0 && rules[i].effect[role][phase] != SPARK_JAIL_KILL)
            filter_row(&o, &rules[i], rules[i].number[arch], rules[i].effect[role][phase]);
    filter_return(&o, FILTER_KILL);
    return o.n;
}
