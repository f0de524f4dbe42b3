/* load_modes.h - what load-generator can do to a server; each mode runs to its end and tells what it measured as JSON. */
#ifndef SPARK_BENCH_LOAD_MODES_H
#define SPARK_BENCH_LOAD_MODES_H

#include <jansson.h>

#include "load_client.h"
#include "load_text.h"

typedef struct load_options {
    load_text text;
    uint32_t clients, requests; /* requests: of each client; open: of all */
    uint32_t prompt, max_new;   /* tokens */
    double rate, seconds, timeout;
    uint32_t others, other_new; /* kept: who sends prompts, and the tokens they ask for */
    uint32_t prompts[8], n_prompts;
    double leave; /* soak: part of requests whose client goes away midway */
    bool fresh;
    const char *path; /* of GET requests */
    int pids[64];     /* the server's processes */
    uint32_t n_pids;
} load_options;

typedef struct load_mode {
    const char *name, *about;
    json_t *(*run)(const load_options *o, const load_target *t);
    bool calibrates; /* sends prompts, so it must know how long words are */
} load_mode;

extern const load_mode load_modes[]; /* ends with name NULL */

/* Asks the server how many tokens words are (its usage chunk tells); also warms it. false: it does not say, or fails: why
 * goes to stderr. */
bool load_calibrate(load_options *o, const load_target *t);

/* Sum over o->pids from /proc: processor seconds, resident and peak resident bytes; zero for one that is gone. */
typedef struct load_usage {
    double cpu_s;
    uint64_t rss, peak;
    uint32_t n_alive;
} load_usage;
load_usage load_usage_of(const load_options *o);

#endif
