/* cli_config.h - the settings of the service as options of a command: `serve` and `config` have the same.
 * The rows come from the table in serve/config.h, so flags, help, man pages and completions cannot differ from it. */
#ifndef SPARK_CLI_CLI_CONFIG_H
#define SPARK_CLI_CLI_CONFIG_H

#include "cli/cli.h"
#include "serve/config.h"

/* What the flag of a setting gave. */
typedef struct cli_setting {
    bool flag;
    const char *text;
    cli_texts texts;
} cli_setting;

extern cli_setting cli_settings[SPARK_N_SETTINGS];
extern cli_texts cli_config_models, cli_config_model_sets;
extern const char *cli_config_path;

#define CLI_SETTING_BOOL(id, flag_name, arg, fallback, choices, help)                                                  \
    {flag_name, CLI_FLAG, &cli_settings[id].flag, NULL, help, 0, 0, NULL},
#define CLI_SETTING_SCALAR(id, flag_name, arg, fallback, choices, help)                                                \
    {flag_name, CLI_TEXT, &cli_settings[id].text, arg, help " (default " fallback ")", 0, 0, choices},
#define CLI_SETTING_U32(...)     CLI_SETTING_SCALAR(__VA_ARGS__)
#define CLI_SETTING_SIZE(...)    CLI_SETTING_SCALAR(__VA_ARGS__)
#define CLI_SETTING_MS(...)      CLI_SETTING_SCALAR(__VA_ARGS__)
#define CLI_SETTING_SECONDS(...) CLI_SETTING_SCALAR(__VA_ARGS__)
#define CLI_SETTING_CHOICE(...)  CLI_SETTING_SCALAR(__VA_ARGS__)
#define CLI_SETTING_TEXT(id, flag_name, arg, fallback, choices, help)                                                  \
    {flag_name, CLI_TEXT, &cli_settings[id].text, arg, help, 0, 0, NULL},
#define CLI_SETTING_LIST(id, flag_name, arg, fallback, choices, help)                                                  \
    {flag_name, CLI_TEXTS, &cli_settings[id].texts, arg, help, 0, 0, NULL},
#define CLI_SETTING_ROW(name, kind, flag, arg, fallback, min, max, choices, help)                                      \
    CLI_SETTING_##kind(SPARK_SET_##name, flag, arg, fallback, choices, help)

/* The rows of a command's table of options: each ends with a comma. */
#define CLI_CONFIG_OPTIONS                                                                                             \
    {"--model",                                                                                                        \
     CLI_TEXTS,                                                                                                        \
     &cli_config_models,                                                                                               \
     "NAME=FILE",                                                                                                      \
     "serve FILE by NAME (several; NAME= is the embedded model)",                                                      \
     0,                                                                                                                \
     0,                                                                                                                \
     NULL},                                                                                                            \
        {"--model-set",                                                                                                \
         CLI_TEXTS,                                                                                                    \
         &cli_config_model_sets,                                                                                       \
         "NAME.SETTING=V",                                                                                             \
         "a setting of one model: demo.ctx=8192",                                                                      \
         0,                                                                                                            \
         0,                                                                                                            \
         NULL},                                                                                                        \
        {"--config", CLI_TEXT, &cli_config_path, "FILE", "read settings from FILE (also: SPARK_CONFIG)", 0, 0, NULL},  \
        SPARK_ALL_SETTINGS(CLI_SETTING_ROW)

/* All sources together, checked. Prints what is wrong and returns the exit code: 2 for what is written wrong, wherever it stands (trying
 * again does not help), 3 for what a policy forbids. */
int cli_config_load(const char *command, spark_config **out);

/* NAME=FILE for a file that nobody named: by its own name. malloc'd, or NULL. */
char *cli_config_named(const char *path);

#endif
