/* api_query.c - parameters behind the "?" of a target: one table, in the three classes of fields. What stands nowhere in it is refused, save
 * on the page and on the routes of health: a parameter that was passed over would be a setting that is ignored. Routes that answer 403 or 501 say that first. */
#include <stdio.h>

#include "serve/api_internal.h"

#define ON(handler) (UINT32_C(1) << (handler))
#define GENERATE                                                                                                       \
    (ON(API_CHAT) | ON(API_COMPLETIONS) | ON(API_OLLAMA_CHAT) | ON(API_OLLAMA_GENERATE) | ON(API_COMPLETION) |         \
     ON(API_TOKENIZE) | ON(API_DETOKENIZE) | ON(API_APPLY_TEMPLATE))
#define HEALTH (ON(API_HEALTH) | ON(API_LIVE) | ON(API_READY) | ON(API_STARTUP))
#define REST                                                                                                           \
    (ON(API_METRICS_TEXT) | ON(API_WATCH) | ON(API_MODELS) | ON(API_MODEL) | ON(API_TAGS) | ON(API_SHOW) |             \
     ON(API_PS) | ON(API_VERSION) | ON(API_PROPS) | ON(API_SLOTS))
#define EVERY  (GENERATE | HEALTH | REST)
#define OPENAI (ON(API_CHAT) | ON(API_COMPLETIONS) | ON(API_MODELS) | ON(API_MODEL))

_Static_assert(API_LATER < 32, "a bit for each handler");

#define IN_BODY "the model is named in the body"
#define NO_KEY  "keys go into the header Authorization: what stands in a URL ends in logs on its way"
#define WHOLE   "the list is always whole"

const api_parameter api_parameters[] = {
    {"model", ON(API_PROPS) | ON(API_SLOTS), API_HONOURED, 0, "default: the first model; 404 if it is not served"},
    {"fail_on_no_slot", ON(API_SLOTS), API_HONOURED, 0,
     "1 or true: 503 when no slot is free, or the model is not there; 0 or false: as without it"},
    {"api-version", OPENAI, API_NEUTRAL, 0, "sent by clients of Azure; there is one version"},
    {"client_version", OPENAI, API_NEUTRAL, 0, "a name for logs"},
    {"model", GENERATE | ON(API_SHOW), API_REFUSED, 0, IN_BODY},
    {"model", ON(API_METRICS_TEXT), API_REFUSED, 0, "all models stand on one page, each with the label `model`"},
    {"name[]", ON(API_METRICS_TEXT), API_REFUSED, 0, "the page is always whole"},
    {"format", ON(API_METRICS_TEXT), API_REFUSED, API_UNLESS_THIS_FORM, "there is one form"},
    {"autoload", GENERATE | ON(API_PROPS) | ON(API_SLOTS), API_REFUSED, API_UNLESS_AS_IT_IS,
     "when a model is loaded is its operator's to say; what is asked of a route that generates loads it"},
    {"reload", ON(API_MODELS), API_REFUSED, API_UNLESS_OFF,
     "models are named by the operator, and read again on SIGHUP"},
    {"limit", ON(API_MODELS), API_REFUSED, 0, WHOLE},
    {"after", ON(API_MODELS), API_REFUSED, 0, WHOLE},
    {"order", ON(API_MODELS), API_REFUSED, 0, WHOLE},
    {"fail_on_no_slot", HEALTH, API_NEUTRAL, 0, "of an old llama-server; today GET /slots tells"},
    {"include_slots", HEALTH, API_NEUTRAL, 0, "of an old llama-server; today GET /slots tells"},
    {"key", EVERY, API_REFUSED, 0, NO_KEY},
    {"api_key", EVERY, API_REFUSED, 0, NO_KEY},
    {"api-key", EVERY, API_REFUSED, 0, NO_KEY},
    {NULL, HEALTH, API_NEUTRAL, 0, "probes add one to pass by caches; there is nothing to choose here"},
};
const size_t api_n_parameters = SPARK_COUNT(api_parameters);

static bool query_bad(api_error *e, const char *code, spark_bytes name, const char *text)
{
    const int n = (int)(name.len < 60 ? name.len : 60);
    char param[64];
    snprintf(param, sizeof param, "%.*s", n, name.len ? (const char *)name.ptr : "");
    api_error_set(e, 400, code, param, "the query parameter '%s' %s", param, text);
    return false;
}

static bool query_is_on(spark_bytes v) { return spark_bytes_is(v, "1") || spark_bytes_is(v, "true"); }
static bool query_is_off(spark_bytes v) { return spark_bytes_is(v, "0") || spark_bytes_is(v, "false"); }

static bool query_asks_nothing(const api_parameter *p, const api_route *r, spark_bytes v)
{
    const bool generates = GENERATE >> r->handler & 1;
    return (p->unless == API_UNLESS_OFF && query_is_off(v)) ||
           (p->unless == API_UNLESS_AS_IT_IS && (generates ? query_is_on(v) : query_is_off(v))) ||
           (p->unless == API_UNLESS_THIS_FORM && (spark_bytes_is(v, "prometheus") || spark_bytes_is(v, "text")));
}

static bool query_honour(api_query *q, spark_bytes name, spark_bytes v, api_error *e)
{
    if (spark_bytes_is(name, "model")) {
        q->model = v;
        return (v.len > 0 && v.len <= SPARK_MAX_MODEL_NAME) ||
               query_bad(e, "invalid_value", name, "must have 1 to 256 bytes");
    }
    q->fail_on_no_slot = query_is_on(v);
    return query_is_on(v) || query_is_off(v) || query_bad(e, "invalid_value", name, "must be 1, true, 0 or false");
}

static const api_parameter *query_find(const api_route *r, spark_bytes name)
{
    for (size_t i = 0; i < api_n_parameters; i++)
        if (api_parameters[i].handlers >> r->handler & 1 &&
            (!api_parameters[i].name || spark_bytes_is(name, api_parameters[i].name)))
            return &api_parameters[i];
    return NULL;
}

bool api_query_take(api_query *q, const api_route *r, spark_bytes name, spark_bytes value, api_error *e)
{
    char why[256];
    if (!(EVERY >> r->handler & 1)) return true; /* the page; 403 and 501 */
    const api_parameter *p = query_find(r, name);
    if (!p) return query_bad(e, "unknown_parameter", name, "is not known here; docs/API.md lists those that are");
    if (p->cls == API_HONOURED) return query_honour(q, name, value, e);
    if (p->cls == API_NEUTRAL || query_asks_nothing(p, r, value)) return true;
    snprintf(why, sizeof why, "is refused: %s", p->note);
    return query_bad(e, "unsupported_parameter", name, why);
}

/* ---- The reference ---- */

static const char *query_unless_words(unsigned unless)
{
    return unless == API_UNLESS_OFF         ? " (but for 0, false)"
           : unless == API_UNLESS_THIS_FORM ? " (but for prometheus, text)"
           : unless == API_UNLESS_AS_IT_IS  ? " (but for what is done anyway: true where text is generated, else false)"
                                            : "";
}

/* Paths of the routes that have it. */
static void query_print_routes(api_out *o, uint32_t handlers)
{
    bool any = false;
    if (handlers == EVERY) {
        api_out_str(o, "every route but `/`");
        return;
    }
    for (size_t i = 0; i < api_n_routes; i++) {
        if (!(handlers >> api_routes[i].handler & 1)) continue;
        api_out_fmt(o, "%s`%s`", any ? ", " : "", api_routes[i].path);
        any = true;
    }
}

void api_print_parameters(api_out *o)
{
    static const char *const classes[] = {
        [API_HONOURED] = "honoured", [API_NEUTRAL] = "changes nothing", [API_REFUSED] = "refused"};
    api_out_str(o, "\n### Query parameters\n\n| parameter | routes | class | |\n|---|---|---|---|\n");
    for (size_t i = 0; i < api_n_parameters; i++) {
        const api_parameter *p = &api_parameters[i];
        const char *quote = p->name ? "`" : "";
        api_out_fmt(o, "| %s%s%s | ", quote, p->name ? p->name : "any other", quote);
        query_print_routes(o, p->handlers);
        api_out_fmt(o, " | %s%s | %s |\n", classes[p->cls], query_unless_words(p->unless), p->note);
    }
}
