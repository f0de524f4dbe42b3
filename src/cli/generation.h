/* generation.h - the options and the loop that `run` and `chat` share. */
#ifndef SPARK_CLI_GENERATION_H
#define SPARK_CLI_GENERATION_H

#include "cli/cli.h"

/* What the options fill; spark_generate_options is made of it. */
typedef struct cli_generation {
    spark_generate_options options;
    uint64_t seed;
    cli_texts stops, biases;
    spark_logit_bias bias[CLI_MAX_TEXTS];
    const char *system;
} cli_generation;

#define CLI_GENERATION_OPTIONS(g)                                                                                      \
    {                                                                                                                  \
        "-n",                                                                                                          \
        CLI_U32,                                                                                                       \
        &(g).options.max_tokens,                                                                                       \
        "N",                                                                                                           \
        "most tokens to generate (default: until the model ends)",                                                     \
        1,                                                                                                             \
        4294967295.0,                                                                                                  \
        NULL},                                                                                                         \
        {"--temp",                                                                                                     \
         CLI_F32,                                                                                                      \
         &(g).options.sampling.temperature,                                                                            \
         "T",                                                                                                          \
         "temperature; 0 = always the likeliest token (default 0.8)",                                                  \
         0,                                                                                                            \
         10000,                                                                                                        \
         NULL},                                                                                                        \
        {"--top-k",                                                                                                    \
         CLI_U32,                                                                                                      \
         &(g).options.sampling.top_k,                                                                                  \
         "K",                                                                                                          \
         "only the K likeliest tokens; 0 = off (default 40)",                                                          \
         0,                                                                                                            \
         4294967295.0,                                                                                                 \
         NULL},                                                                                                        \
        {"--top-p",                                                                                                    \
         CLI_F32,                                                                                                      \
         &(g).options.sampling.top_p,                                                                                  \
         "P",                                                                                                          \
         "only the likeliest tokens of mass P; 1 = off (default 0.95)",                                                \
         0,                                                                                                            \
         1,                                                                                                            \
         NULL},                                                                                                        \
        {"--min-p",                                                                                                    \
         CLI_F32,                                                                                                      \
         &(g).options.sampling.min_p,                                                                                  \
         "P",                                                                                                          \
         "only tokens P times as likely as the likeliest; 0 = off (default 0.05)",                                     \
         0,                                                                                                            \
         1,                                                                                                            \
         NULL},                                                                                                        \
        {"--typical-p",                                                                                                \
         CLI_F32,                                                                                                      \
         &(g).options.sampling.typical_p,                                                                              \
         "P",                                                                                                          \
         "locally typical sampling; 1 = off (default 1)",                                                              \
         0,                                                                                                            \
         1,                                                                                                            \
         NULL},                                                                                                        \
        {"--top-n-sigma",                                                                                              \
         CLI_F32,                                                                                                      \
         &(g).options.sampling.top_n_sigma,                                                                            \
         "S",                                                                                                          \
         "only logits within S standard deviations of the best; 0 = off (default 0)",                                  \
         0,                                                                                                            \
         10000,                                                                                                        \
         NULL},                                                                                                        \
        {"--xtc-probability",                                                                                          \
         CLI_F32,                                                                                                      \
         &(g).options.sampling.xtc_probability,                                                                        \
         "P",                                                                                                          \
         "how often to exclude top choices; 0 = off (default 0)",                                                      \
         0,                                                                                                            \
         1,                                                                                                            \
         NULL},                                                                                                        \
        {"--xtc-threshold",                                                                                            \
         CLI_F32,                                                                                                      \
         &(g).options.sampling.xtc_threshold,                                                                          \
         "P",                                                                                                          \
         "what counts as a top choice (default 0.1)",                                                                  \
         0,                                                                                                            \
         1,                                                                                                            \
         NULL},                                                                                                        \
        {"--dynatemp-range",                                                                                           \
         CLI_F32,                                                                                                      \
         &(g).options.sampling.dynatemp_range,                                                                         \
         "R",                                                                                                          \
         "temperature moves by up to R with the entropy; 0 = off (default 0)",                                         \
         0,                                                                                                            \
         10000,                                                                                                        \
         NULL},                                                                                                        \
        {"--dynatemp-exponent",                                                                                        \
         CLI_F32,                                                                                                      \
         &(g).options.sampling.dynatemp_exponent,                                                                      \
         "X",                                                                                                          \
         "how it moves (default 1)",                                                                                   \
         0,                                                                                                            \
         10000,                                                                                                        \
         NULL},                                                                                                        \
        {"--repeat-penalty",                                                                                           \
         CLI_F32,                                                                                                      \
         &(g).options.sampling.repeat_penalty,                                                                         \
         "R",                                                                                                          \
         "divides the logits of recent tokens; 1 = off (default 1)",                                                   \
         0.001,                                                                                                        \
         1000,                                                                                                         \
         NULL},                                                                                                        \
        {"--frequency-penalty",                                                                                        \
         CLI_F32,                                                                                                      \
         &(g).options.sampling.frequency_penalty,                                                                      \
         "F",                                                                                                          \
         "taken off for each recent occurrence (default 0)",                                                           \
         -1000,                                                                                                        \
         1000,                                                                                                         \
         NULL},                                                                                                        \
        {"--presence-penalty",                                                                                         \
         CLI_F32,                                                                                                      \
         &(g).options.sampling.presence_penalty,                                                                       \
         "F",                                                                                                          \
         "taken off if it occurred recently (default 0)",                                                              \
         -1000,                                                                                                        \
         1000,                                                                                                         \
         NULL},                                                                                                        \
        {"--repeat-last-n",                                                                                            \
         CLI_U32,                                                                                                      \
         &(g).options.sampling.penalty_last_n,                                                                         \
         "N",                                                                                                          \
         "how many tokens are recent (default 64)",                                                                    \
         0,                                                                                                            \
         16777216,                                                                                                     \
         NULL},                                                                                                        \
        {"--dry-multiplier",                                                                                           \
         CLI_F32,                                                                                                      \
         &(g).options.sampling.dry_multiplier,                                                                         \
         "M",                                                                                                          \
         "strength of the penalty on repeated sequences; 0 = off (default 0)",                                         \
         0,                                                                                                            \
         1000,                                                                                                         \
         NULL},                                                                                                        \
        {"--dry-base", CLI_F32, &(g).options.sampling.dry_base, "B", "its growth with the length (default 1.75)", 1,   \
         1000,         NULL},                                                                                          \
        {"--dry-allowed-length",                                                                                       \
         CLI_U32,                                                                                                      \
         &(g).options.sampling.dry_allowed_length,                                                                     \
         "N",                                                                                                          \
         "length that costs nothing (default 2)",                                                                      \
         0,                                                                                                            \
         16777216,                                                                                                     \
         NULL},                                                                                                        \
        {"--dry-last-n", CLI_U32, &(g).options.sampling.dry_last_n, "N", "how far back it looks (default 64)", 0,      \
         16777216,       NULL},                                                                                        \
        {"--seed", CLI_U64, &(g).seed, "N", "seed of the random numbers (default: drawn, and told with --json)",       \
         0,        0,       NULL},                                                                                     \
        {"--stop", CLI_TEXTS, &(g).stops, "TEXT", "end before this text (several times)", 0, 0, NULL},                 \
        {"--logit-bias",                                                                                               \
         CLI_TEXTS,                                                                                                    \
         &(g).biases,                                                                                                  \
         "ID=BIAS",                                                                                                    \
         "add to the logit of a token; -inf forbids it (several times)",                                               \
         0,                                                                                                            \
         0,                                                                                                            \
         NULL},                                                                                                        \
    {                                                                                                                  \
        "--system", CLI_TEXT, &(g).system, "TEXT", "system message put before the chat", 0, 0, NULL                    \
    }

/* Defaults, before options are read. */
void cli_generation_defaults(cli_generation *g);
/* Turns texts into values (seed, biases). Prints mistakes; CLI_OK or CLI_USAGE. */
int cli_generation_finish(cli_generation *g, const char *command);

/* Ctrl-C stops the running generation of this session; a second one ends the program. NULL: as usual. */
void cli_interrupt_cancels(spark_session *s);

#endif
