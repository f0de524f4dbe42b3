/* front_page.c - what stands at "/": with --page the page (page/page.html, bytes of the program), else a line of text.
 *
 * The page needs nothing but itself and this server's API, and its policy allows nothing else: the one script and the one style sheet are
 * named by their SHA-256, found at start, so that what a model says cannot become either; strings cannot be made into markup at all
 * (trusted types). The page is the same for everybody and holds no data; those it asks for with the key that a person typed. */
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "serve/front_internal.h"

extern const uint8_t spark__page_begin[], spark__page_end[];

enum { PAGE_MAX = 128 << 10, PAGE_DIGEST = 32, PAGE_DIGEST_TEXT = 45 };

static struct {
    uint8_t open[PAGE_MAX]; /* for doors that ask for no key: the page with data-door="open" */
    size_t len;
    char policy[512];
} page;

/* ---- Start ---- */

/* What stands between two tags, or nothing. */
static spark_bytes page_between(spark_bytes html, const char *from, const char *to)
{
    const uint8_t *a = memmem(html.ptr, html.len, from, strlen(from));
    if (!a) return (spark_bytes){0};
    a += strlen(from);
    const uint8_t *b = memmem(a, (size_t)(html.ptr + html.len - a), to, strlen(to));
    return b ? (spark_bytes){a, (size_t)(b - a)} : (spark_bytes){0};
}

static bool page_digest(spark_bytes block, char out[PAGE_DIGEST_TEXT])
{
    uint8_t digest[PAGE_DIGEST];
    unsigned n = 0;
    if (!block.ptr || !EVP_Digest(block.ptr, block.len, digest, &n, EVP_sha256(), NULL) || n != PAGE_DIGEST)
        return false;
    return EVP_EncodeBlock((unsigned char *)out, digest, PAGE_DIGEST) == PAGE_DIGEST_TEXT - 1;
}

spark_status front_page_start(const front *f, spark_err *err)
{
    static const char keys[] = "data-door=\"keys\"", open[] = "data-door=\"open\"";
    _Static_assert(sizeof keys == sizeof open, "one takes the place of the other");
    const spark_bytes html = {spark__page_begin, (uintptr_t)spark__page_end - (uintptr_t)spark__page_begin};
    char script[PAGE_DIGEST_TEXT], style[PAGE_DIGEST_TEXT];
    if (!f->config->page) return SPARK_SUCCESS;
    const uint8_t *door = memmem(html.ptr, html.len, keys, sizeof keys - 1);
    const bool ok = html.len <= PAGE_MAX && door && page_digest(page_between(html, "<script>", "</script>"), script) &&
                    page_digest(page_between(html, "<style>", "</style>"), style);
    SPARK_CHECK(ok, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "the page cannot be made ready");
    memcpy(page.open, html.ptr, html.len);
    memcpy(page.open + (door - html.ptr), open, sizeof open - 1);
    page.len = html.len;
    snprintf(page.policy, sizeof page.policy,
             "default-src 'none'; script-src 'sha256-%s'; style-src 'sha256-%s'; connect-src 'self'; img-src data:; "
             "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; "
             "trusted-types 'none'",
             script, style); /* img-src: its icon is in it */
    return SPARK_SUCCESS;
}

/* ---- Answers ---- */

void front_page(front *f, http_exchange *x)
{
    if (!f->config->page) {
        static const char html[] = "text/html";
        const spark_bytes accept = http_request_header(x, "accept");
        const bool person = accept.ptr && memmem(accept.ptr, accept.len, html, sizeof html - 1);
        front_reply(f, x, 200, "text/plain; charset=utf-8",
                    person ? SPARK_BYTES_LITERAL(API_ROOT_TEXT API_ROOT_MORE) : SPARK_BYTES_LITERAL(API_ROOT_TEXT),
                    NULL, 0);
        return;
    }
    const bool open_door = ((const front_door *)http_request_listener(x)->tag)->bits & CONTROL_LISTEN_OPEN;
    const http_field fields[] = {
        {"Content-Security-Policy", page.policy},
        {"X-Frame-Options", "DENY"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=(), clipboard-write=(self)"}};
    front_reply(f, x, 200, "text/html; charset=utf-8",
                (spark_bytes){open_door ? page.open : spark__page_begin, page.len}, fields, SPARK_COUNT(fields));
}
