/* generate.c - the smallest whole use of the library: open, plan, load, feed, generate with a callback, close.
 *     cc generate.c $(pkg-config --cflags --libs --static spark) -o generate && ./generate model.gguf "Once upon a time" */
#include <spark/spark.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what, const spark_err *err)
{
    fprintf(stderr, "%s: %s\n", what, err->text);
    return EXIT_FAILURE;
}

static bool print_piece(void *ctx, const spark_piece *piece)
{
    (void)ctx;
    fwrite(piece->text, 1, piece->len, stdout);
    fflush(stdout);
    return true; /* false would cancel */
}

static int generate(spark_session *s, const spark_model *m, const char *prompt, spark_err *err)
{
    spark_tokens tokens = {0};
    spark_generate_options options;
    spark_generate_result result;
    if (spark_model_tokenize(m, prompt, strlen(prompt), SPARK_TOKENIZE_ADD, &tokens, err).code)
        return fail("tokenize", err);
    const spark_status fed = spark_session_feed(s, tokens.ids, tokens.n, err);
    spark_tokens_free(&tokens);
    if (fed.code) return fail("feed", err);
    spark_generate_options_defaults(&options);
    options.max_tokens = 64;
    options.sampling.seed = 1;
    options.on_piece = print_piece;
    if (spark_session_generate(s, &options, &result, err).code) return fail("generate", err);
    fprintf(stderr, "\n[%u tokens]\n", result.n_tokens);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    spark_model *m = NULL;
    spark_session *s = NULL;
    spark_plan plan;
    spark_err err = {0};
    int code = EXIT_FAILURE;
    const char *prompt = argc > 2 ? argv[2] : "Once upon a time";
    const spark_status opened = argc > 1 ? spark_model_open(&m, argv[1], NULL, &err)
                                         : spark_model_open_embedded(&m, NULL, &err);
    if (opened.code) return fail("open", &err);
    if (spark_model_plan(m, NULL, &plan, &err).code)
        fail("plan", &err);
    else if (fprintf(stderr, "[%.1f MiB]\n", (double)plan.total / (1 << 20)),
             spark_model_load(m, NULL, NULL, &err).code)
        fail("load", &err);
    else if (spark_session_create(&s, m, NULL, &err).code)
        fail("session", &err);
    else
        code = generate(s, m, prompt, &err);
    spark_session_destroy(&s);
    spark_model_close(&m);
    return code;
}
