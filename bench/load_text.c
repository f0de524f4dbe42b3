/* load_text.c - see load_text.h. */
#include "load_text.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/philox.h"
#include "load_stats.h"

/* Common and short: one token each in the vocabularies of real models. */
static const char *const text_words[] = {
    "time",   "year",    "way",    "day",    "thing",  "man",    "world", "life",    "hand",    "part",   "child",
    "eye",    "woman",   "place",  "work",   "week",   "case",   "point", "home",    "water",   "room",   "mother",
    "area",   "money",   "story",  "fact",   "month",  "lot",    "right", "study",   "book",    "job",    "word",
    "side",   "kind",    "head",   "house",  "friend", "power",  "hour",  "game",    "line",    "end",    "member",
    "law",    "car",     "city",   "name",   "team",   "minute", "idea",  "kid",     "body",    "back",   "parent",
    "face",   "level",   "office", "door",   "health", "person", "art",   "war",     "history", "party",  "result",
    "change", "morning", "reason", "girl",   "guy",    "moment", "air",   "teacher", "force",   "food",   "foot",
    "boy",    "age",     "music",  "map",    "table",  "tree",   "river", "field",   "market",  "road",   "stone",
    "paper",  "light",   "voice",  "color",  "north",  "south",  "east",  "west",    "summer",  "winter", "spring",
    "rain",   "snow",    "wind",   "fire",   "earth",  "sun",    "moon",  "star",    "sea",     "ship",   "train",
    "plane",  "bridge",  "wall",   "window", "floor",  "chair",  "bed",   "cup",     "plate",   "bread",  "milk",
    "meat",   "fish",    "fruit",  "apple",  "sugar",  "salt",   "oil",   "horse",   "dog",
};

#define TEXT_WORDS (sizeof text_words / sizeof text_words[0])

uint32_t load_text_words(const load_text *t, uint32_t n_tokens)
{
    const double words = ((double)n_tokens - t->tokens_around) / t->tokens_per_word;
    return words < 1 ? 1 : (uint32_t)(words + 0.5);
}

bool load_text_fit(load_text *t, double words_a, double tokens_a, double words_b, double tokens_b)
{
    const double per_word = (tokens_b - tokens_a) / (words_b - words_a);
    const double around = tokens_a - per_word * words_a;
    if (!(per_word > 0) || per_word > 100) return false;
    t->tokens_per_word = per_word;
    t->tokens_around = around > 0 ? around : 0;
    return true;
}

/* The words of prompt `number`; those of the shared part are the words of prompt UINT64_MAX. */
static char *text_prompt(const load_text *t, uint64_t number, uint32_t n_words)
{
    const uint32_t n_shared = t->shared_tokens ? (uint32_t)(t->shared_tokens / t->tokens_per_word) : 0;
    char *text = load_grow(NULL, (size_t)n_words + 1, 8);
    size_t at = 0;
    for (uint32_t i = 0; i < n_words; i++) {
        const uint64_t of = i < n_shared ? UINT64_MAX : number;
        const char *word =
            text_words[(size_t)(spark_uniform(t->seed ^ of * 0x9e3779b97f4a7c15u, i, 1) * (double)TEXT_WORDS)];
        const size_t n = strlen(word);
        if (i) text[at++] = ' ';
        memcpy(text + at, word, n);
        at += n;
    }
    text[at] = 0;
    return text;
}

static char *text_body(const load_text *t, uint64_t number, uint32_t n_words, uint32_t max_tokens)
{
    char *prompt = text_prompt(t, number, n_words);
    json_t *model = json_string(t->model);
    char *quoted = json_dumps(model, JSON_ENCODE_ANY), *body = NULL;
    if (asprintf(&body,
                 "{\"model\": %s, \"stream\": true, \"stream_options\": {\"include_usage\": true}, \"max_tokens\": %u, "
                 "\"temperature\": %g, %s%s%s%s%s}",
                 quoted ? quoted : "\"\"", max_tokens, t->temperature, t->extra ? t->extra : "", t->extra ? ", " : "",
                 t->chat ? "\"messages\": [{\"role\": \"user\", \"content\": \"" : "\"prompt\": \"", prompt,
                 t->chat ? "\"}]" : "\"") < 0)
        body = load_grow(NULL, SIZE_MAX, 2); /* says so and ends */
    json_decref(model);
    free(quoted);
    free(prompt);
    return body;
}

static char *text_head(const load_text *t, const char *method, const char *path, const char *body, size_t *len)
{
    char *all = NULL;
    const char *type = body ? "Content-Type: application/json\r\nAccept: text/event-stream\r\n" : "";
    char length[64] = "";
    if (body) snprintf(length, sizeof length, "Content-Length: %zu\r\n", strlen(body));
    const int n = asprintf(&all, "%s %s HTTP/1.1\r\nHost: %s\r\n%s%s%s%s%s\r\n%s", method, path, t->host,
                           t->key ? "Authorization: Bearer " : "", t->key ? t->key : "", t->key ? "\r\n" : "", type,
                           length, body ? body : "");
    if (n < 0) all = load_grow(NULL, SIZE_MAX, 2);
    *len = strlen(all);
    return all;
}

char *load_text_request(const load_text *t, uint64_t number, uint32_t n_words, uint32_t max_tokens, size_t *len)
{
    char *body = text_body(t, number, n_words, max_tokens);
    char *all = text_head(t, "POST", t->chat ? "/v1/chat/completions" : "/v1/completions", body, len);
    free(body);
    return all;
}

char *load_text_get(const load_text *t, const char *path, size_t *len) { return text_head(t, "GET", path, NULL, len); }
