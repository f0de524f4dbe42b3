/* cmd_chat.c - spark chat: a conversation in turns. What was computed stays: only the new part of each turn is fed.
 * At a terminal the warden edits lines (cell_line.c). */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/generation.h"

static cli_model_options chat_model;
static cli_generation chat_gen;

static const cli_option chat_options[] = {
    CLI_MODEL_OPTIONS(chat_model),
    CLI_GENERATION_OPTIONS(chat_gen),
    {NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

/* One message; both texts are malloc'd, role is a constant. */
typedef struct chat_message {
    const char *role;
    char *text;
    size_t len;
} chat_message;

typedef struct chat_state {
    spark_model *m;
    spark_session *s;
    bool template, terminal;
    bool zero;    /* a line of the current message held a NUL byte */
    char *system; /* what /system set, malloc'd; NULL = none */
    chat_message *messages;
    size_t n, cap;
    cli_out answer;
    bool failed;
} chat_state;

static void chat_add(chat_state *c, const char *role, const char *text, size_t len)
{
    if (c->n == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 16;
        chat_message *bigger = realloc(c->messages, c->cap * sizeof *bigger);
        if (!bigger) exit(cli_no_memory("chat"));
        c->messages = bigger;
    }
    char *copy = malloc(len + 1);
    if (!copy) exit(cli_no_memory("chat"));
    memcpy(copy, text, len);
    copy[len] = 0;
    chat_message *m = &c->messages[c->n++];
    m->role = role;
    m->text = copy;
    m->len = len;
}

/* Forgets messages behind the first `keep`. */
static void chat_forget(chat_state *c, size_t keep)
{
    while (c->n > keep) free(c->messages[--c->n].text);
}

static void chat_restart(chat_state *c)
{
    chat_forget(c, 0);
    spark_session_reset(c->s);
    if (chat_gen.system) chat_add(c, "system", chat_gen.system, strlen(chat_gen.system));
}

/* ---- One turn ---- */

static bool chat_on_piece(void *ctx, const spark_piece *p)
{
    chat_state *c = ctx;
    cli_put(&c->answer, p->text, p->len);
    if (!c->failed) c->failed = cli_write(p->text, p->len) != CLI_OK || (p->len && cli_flush() != CLI_OK);
    return !c->failed;
}

/* The whole conversation as tokens; without a template, the last text as a continuation of what is there. */
static spark_status chat_tokens(chat_state *c, spark_tokens *out, spark_err *err)
{
    const chat_message *last = &c->messages[c->n - 1];
    if (!c->template)
        return spark_model_tokenize(c->m, last->text, last->len, spark_session_length(c->s) ? 0u : SPARK_TOKENIZE_ADD,
                                    out, err);
    cli_out vars = {0};
    cli_put(&vars, "{\"messages\":[", 13);
    for (size_t i = 0; i < c->n; i++) {
        cli_putf(&vars, "%s{\"role\":\"%s\",\"content\":", i ? "," : "", c->messages[i].role);
        cli_put_json(&vars, c->messages[i].text, c->messages[i].len);
        cli_put(&vars, "}", 1);
    }
    cli_put(&vars, "]}", 2);
    const spark_status s = spark_model_chat(c->m, vars.ptr, vars.len, out, NULL, err);
    cli_out_free(&vars);
    return s;
}

/* Answers the last message. On an error the message is taken back, so the conversation can go on. */
static void chat_answer(chat_state *c)
{
    spark_err err = {0};
    spark_tokens t = {0};
    spark_generate_result result;
    c->answer.len = 0;
    cli_interrupt_cancels(c->s);
    spark_status s = chat_tokens(c, &t, &err);
    if (s.code == SPARK_OK)
        s = c->template ? spark_session_sync(c->s, t.ids, t.n, &err) : spark_session_feed(c->s, t.ids, t.n, &err);
    if (s.code == SPARK_OK) s = spark_session_generate(c->s, &chat_gen.options, &result, &err);
    cli_interrupt_cancels(NULL);
    if (c->terminal) cli_catch(SIGINT, SIG_IGN); /* Ctrl-C is the prompt's, that comes now, or an answer's */
    spark_tokens_free(&t);
    if (c->answer.len && (c->terminal || c->answer.ptr[c->answer.len - 1] != '\n')) cli_write("\n", 1);
    (void)cli_flush();
    if (s.code == SPARK_OK) {
        chat_add(c, "assistant", c->answer.ptr ? c->answer.ptr : "", c->answer.len);
        if (result.finish == SPARK_FINISH_CANCELLED && !c->failed) cli_note("stopped");
        if (result.finish == SPARK_FINISH_LENGTH && !chat_gen.options.max_tokens)
            cli_note("the context is full; /clear begins anew");
        return;
    }
    chat_forget(c, c->n - 1);
    if (s.code == SPARK_E_CANCELLED)
        cli_note("stopped");
    else
        cli_fail("chat", &err, s.code == SPARK_E_CONTEXT ? "/clear begins anew, --ctx gives more room" : NULL);
}

/* ---- Lines ---- */

static char *chat_read(chat_state *c, bool more)
{
    if (c->terminal) return cli_read_line(more);
    char *line = NULL;
    size_t cap = 0;
    const ssize_t n = getline(&line, &cap, stdin);
    if (n < 0) {
        free(line);
        return NULL;
    }
    c->zero = c->zero || memchr(line, 0, (size_t)n) != NULL;
    if (n > 0 && line[n - 1] == '\n') line[n - 1] = 0;
    return line;
}

/* One message: a line, lines joined by a backslash at their end, or all between two lines of three quotes. NULL at the end. */
static char *chat_read_message(chat_state *c)
{
    cli_out text = {0};
    c->zero = false;
    bool block = false, more = true;
    while (more) {
        char *line = chat_read(c, text.len || block);
        if (!line) break;
        const size_t len = strlen(line);
        const bool fence = strcmp(line, "\"\"\"") == 0;
        more = fence ? !block : block || (len && line[len - 1] == '\\');
        if (fence)
            block = true;
        else {
            cli_put(&text, line, more && !block ? len - 1 : len);
            if (more) cli_put(&text, "\n", 1);
        }
        if (!more && fence && text.len) text.ptr[--text.len] = 0; /* the line break before the closing quotes */
        if (!more && !text.ptr) cli_put(&text, "", 0);
        free(line);
    }
    return text.ptr; /* what was begun when the input ended is still a message */
}

static void chat_help(void)
{
    fputs("  /help            this\n  /clear           forget the conversation\n  /retry           answer the last "
          "message again, with the next seed\n"
          "  /system TEXT     set the system message and begin anew\n  /exit, Ctrl-D    leave\n"
          "  Ctrl-C stops an answer. A line ending in \\ goes on; lines of \"\"\" enclose a text of several lines.\n",
          stderr);
}

static void chat_retry(chat_state *c)
{
    if (c->n < 2 || !c->template) {
        cli_note(c->template ? "there is nothing to answer again"
                             : "this model has no turns that could be answered again");
        return;
    }
    chat_forget(c, c->n - 1);
    chat_gen.options.sampling.seed++;
    chat_answer(c);
}

static void chat_set_system(chat_state *c, const char *text)
{
    if (!c->template) {
        cli_note("/system needs a chat template, which this model does not have");
        return;
    }
    char *copy = strdup(text);
    if (!copy) exit(cli_no_memory("chat"));
    free(c->system);
    c->system = copy;
    chat_gen.system = copy;
    chat_restart(c);
}

/* Returns false to leave. */
static bool chat_command(chat_state *c, const char *line)
{
    if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0 || strcmp(line, "/bye") == 0) return false;
    if (strcmp(line, "/help") == 0 || strcmp(line, "/?") == 0)
        chat_help();
    else if (strcmp(line, "/clear") == 0)
        chat_restart(c);
    else if (strcmp(line, "/retry") == 0)
        chat_retry(c);
    else if (strncmp(line, "/system ", 8) == 0)
        chat_set_system(c, line + 8);
    else
        cli_note("unknown command '%.40s'; /help lists them", line);
    return true;
}

static int chat_loop(chat_state *c)
{
    for (bool on = true; on && !c->failed;) {
        char *text = chat_read_message(c);
        if (!text) break;
        if (c->zero)
            cli_note("the message holds a NUL byte and was not sent");
        else if (text[0] == '/' && !strchr(text, '\n'))
            on = chat_command(c, text); /* several lines are a message */
        else if (*text && cli_check_utf8("chat", "the message", text, strlen(text))) {
            chat_add(c, "user", text, strlen(text));
            chat_answer(c);
        }
        free(text);
    }
    if (c->terminal) fputc('\n', stderr);
    return c->failed ? CLI_FAILED : CLI_OK;
}

static int chat_files(const cli_args *args)
{
    if (args->n > 1) return cli_usage("chat", "at most a MODEL is expected");
    if (args->n) cli_name_model(args->item[0]);
    return CLI_OK;
}

static int chat_run(const cli_args *args)
{
    chat_state c = {.terminal = cli_is_terminal(STDIN_FILENO) && cli_is_terminal(STDOUT_FILENO)};
    int code = cli_generation_finish(&chat_gen, "chat");
    if (code == CLI_OK) code = cli_open(args->n ? args->item[0] : NULL, &chat_model, false, &c.m);
    if (code == CLI_OK) code = cli_load(c.m, &chat_model, 1, &c.s);
    if (code == CLI_OK) {
        spark_description d;
        spark_model_describe(c.m, &d);
        c.template = d.has_chat_template;
        chat_gen.options.on_piece = chat_on_piece;
        chat_gen.options.ctx = &c;
        if (!c.template && chat_gen.system)
            code = cli_usage("chat", "--system needs a chat template, which this model does not have");
        else if (!c.template)
            cli_note("this model has no chat template: it goes on with what you write");
        if (c.terminal)
            fprintf(stderr, "%s (%s). /help tells what you can do, Ctrl-D leaves.\n", *d.name ? d.name : "model",
                    d.arch);
    }
    if (code == CLI_OK) {
        chat_restart(&c);
        code = chat_loop(&c);
    }
    chat_forget(&c, 0);
    free(c.messages);
    free(c.system);
    cli_out_free(&c.answer);
    spark_session_destroy(&c.s);
    spark_model_close(&c.m);
    return code;
}

static void chat_defaults(void) { cli_generation_defaults(&chat_gen); }

const cli_command cli_command_chat = {
    .name = "chat",
    .args = "[MODEL]",
    .summary = "talk with a model in turns",
    .details =
        "Reads messages line by line and answers each. A line that ends in a backslash goes on; two lines of three\n"
        "quotes (\"\"\") enclose a text of several lines. Ctrl-C stops an answer, Ctrl-D leaves, /help lists "
        "commands.\n"
        "Lines are remembered while the program runs and nowhere else.",
    .examples = "spark chat model.gguf\nspark chat model.gguf --system \"Answer in one sentence.\" --temp 0.2",
    .options = chat_options,
    .defaults = chat_defaults,
    .run = chat_run,
    .files = chat_files,
    .edits_lines = true,
};
