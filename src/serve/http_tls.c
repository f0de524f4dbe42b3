/* http_tls.c - OpenSSL: what it must do before the doors close, contexts from memory, and a connection's bytes.
 * OpenSSL reads and writes through a BIO of ours: send with MSG_NOSIGNAL, so that no signal has to be ignored in the process. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "serve/http_internal.h"

enum { MAX_CLIENT_CHAIN = 32768 };

static spark_status tls_fail(spark_err *err, const char *what)
{
    const unsigned long e = ERR_peek_error();
    const char *why = e ? ERR_reason_error_string(e) : NULL;
    ERR_clear_error();
    return spark_fail(err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "%s%s%s", what, why ? ": " : "", why ? why : "");
}

/* ---- The BIO ----------------------------------------------------------------------------------------------------- */

static BIO_METHOD *tls_bio_method;

static int bio_fd(BIO *b) { return *(const int *)BIO_get_data(b); } /* the connection's */

static int bio_write(BIO *b, const char *p, int len)
{
    BIO_clear_retry_flags(b);
    const ssize_t n = send(bio_fd(b), p, (size_t)len, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(b);
    return (int)n;
}

static int bio_read(BIO *b, char *p, int len)
{
    BIO_clear_retry_flags(b);
    const ssize_t n = recv(bio_fd(b), p, (size_t)len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(b);
    return (int)n;
}

static long bio_ctrl(BIO *b, int cmd, long number, void *p)
{
    (void)b;
    (void)number;
    (void)p;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static bool bio_prepare(void)
{
    if (tls_bio_method) return true;
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "spark");
    if (!m || !BIO_meth_set_write(m, bio_write) || !BIO_meth_set_read(m, bio_read) || !BIO_meth_set_ctrl(m, bio_ctrl)) {
        BIO_meth_free(m);
        return false;
    }
    tls_bio_method = m;
    return true;
}

/* ---- Contexts ---------------------------------------------------------------------------------------------------- */

/* Never asks the terminal. */
/* NOLINTNEXTLINE(readability-non-const-parameter): OpenSSL's type */
static int tls_no_password(char *buf, int size, int writing, void *ctx)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

static int tls_alpn(SSL *ssl, const unsigned char **out, unsigned char *len, const unsigned char *in,
                    unsigned int in_len, void *arg)
{
    static const unsigned char ours[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
    (void)ssl;
    (void)arg;
    unsigned char *chosen = NULL;
    if (SSL_select_next_proto(&chosen, len, ours, sizeof ours, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static BIO *tls_memory(spark_bytes b) { return b.len <= 1u << 20 ? BIO_new_mem_buf(b.ptr, (int)b.len) : NULL; }

/* Leaf first, then the certificates that lead to the root. */
static bool tls_use_chain(SSL_CTX *ctx, spark_bytes pem)
{
    BIO *b = tls_memory(pem);
    X509 *x = b ? PEM_read_bio_X509(b, NULL, tls_no_password, NULL) : NULL;
    bool ok = x && SSL_CTX_use_certificate(ctx, x) == 1;
    X509_free(x);
    while (ok && (x = PEM_read_bio_X509(b, NULL, tls_no_password, NULL)) != NULL) {
        ok = SSL_CTX_add0_chain_cert(ctx, x) == 1;
        if (!ok) X509_free(x);
    }
    BIO_free(b);
    if (ok) ERR_clear_error(); /* "no start line": the end */
    return ok;
}

static bool tls_use_key(SSL_CTX *ctx, spark_bytes pem)
{
    BIO *b = tls_memory(pem);
    EVP_PKEY *key = b ? PEM_read_bio_PrivateKey(b, NULL, tls_no_password, NULL) : NULL;
    const bool ok = key && SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;
    EVP_PKEY_free(key);
    BIO_free(b);
    return ok;
}

static bool tls_use_authorities(SSL_CTX *ctx, spark_bytes pem)
{
    BIO *b = tls_memory(pem);
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    bool ok = b != NULL;
    int n = 0;
    for (X509 *x; ok && (x = PEM_read_bio_X509(b, NULL, tls_no_password, NULL)) != NULL; n++) {
        ok = X509_STORE_add_cert(store, x) == 1 && SSL_CTX_add_client_CA(ctx, x) == 1;
        X509_free(x);
    }
    BIO_free(b);
    if (!ok || n == 0) return false;
    ERR_clear_error();
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_verify_depth(ctx, 8);
    return true;
}

static bool tls_settings(SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ctx,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_max_cert_list(ctx, MAX_CLIENT_CHAIN);
    SSL_CTX_set_alpn_select_cb(ctx, tls_alpn, NULL);
    return SSL_CTX_set_num_tickets(ctx, 0) == 1 && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1;
}

spark_status http_tls_create(struct ssl_ctx_st **out, spark_bytes cert, spark_bytes key, spark_bytes client_ca,
                             spark_err *err)
{
    if (OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1 || !bio_prepare())
        return tls_fail(err, "TLS cannot be set up");
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    const char *wrong = NULL;
    if (!ctx || !tls_settings(ctx))
        wrong = "TLS cannot be set up";
    else if (!tls_use_chain(ctx, cert))
        wrong = "the TLS certificate cannot be read";
    else if (!tls_use_key(ctx, key))
        wrong = "the TLS key cannot be read, has a password, or is not the certificate's";
    else if (client_ca.len && !tls_use_authorities(ctx, client_ca))
        wrong = "the authorities of client certificates cannot be read";
    if (wrong) {
        SSL_CTX_free(ctx);
        return tls_fail(err, wrong);
    }
    *out = ctx;
    return SPARK_SUCCESS;
}

void http_tls_destroy(struct ssl_ctx_st **tls)
{
    SSL_CTX_free(*tls);
    *tls = NULL;
}

static int64_t tls_end_s(const X509 *x)
{
    ASN1_TIME *epoch = x ? ASN1_TIME_set(NULL, 0) : NULL;
    int days = 0, seconds = 0;
    const bool ok = epoch && ASN1_TIME_diff(&days, &seconds, epoch, X509_get0_notAfter(x)) == 1;
    ASN1_TIME_free(epoch);
    ERR_clear_error();
    return ok ? (int64_t)days * 86400 + seconds : 0;
}

int64_t http_tls_expires_s(struct ssl_ctx_st *tls)
{
    STACK_OF(X509) *chain = NULL;
    if (!tls) return 0;
    int64_t first = tls_end_s(SSL_CTX_get0_certificate(tls));
    SSL_CTX_get0_chain_certs(tls, &chain);
    for (int i = 0; i < sk_X509_num(chain); i++) {
        const int64_t end = tls_end_s(sk_X509_value(chain, i));
        if (end && end < first) first = end;
    }
    return first;
}

/* ---- Warming: one handshake with itself fetches every algorithm, seeds every generator, fills every table --------- */

static X509 *warm_certificate(EVP_PKEY *key)
{
    X509 *x = X509_new();
    if (!x) return NULL;
    X509_NAME *name = X509_get_subject_name(x);
    const bool ok = X509_set_version(x, 2) == 1 && ASN1_INTEGER_set(X509_get_serialNumber(x), 1) == 1 &&
                    X509_gmtime_adj(X509_getm_notBefore(x), -60) && X509_gmtime_adj(X509_getm_notAfter(x), 3600) &&
                    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"warm", -1, -1, 0) ==
                        1 &&
                    X509_set_issuer_name(x, name) == 1 && X509_set_pubkey(x, key) == 1 &&
                    X509_sign(x, key, EVP_sha256()) > 0;
    if (ok) return x;
    X509_free(x);
    return NULL;
}

static bool warm_talk(SSL *server, SSL *client)
{
    BIO *a = NULL, *b = NULL;
    if (BIO_new_bio_pair(&a, 0, &b, 0) != 1) return false;
    SSL_set_bio(server, a, a);
    SSL_set_bio(client, b, b);
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    char byte = 'x';
    bool said = false;
    for (int i = 0; i < 16 && !said; i++) {
        (void)SSL_do_handshake(client);
        (void)SSL_do_handshake(server);
        said = SSL_is_init_finished(client) && SSL_is_init_finished(server) && SSL_write(server, &byte, 1) == 1 &&
               SSL_read(client, &byte, 1) == 1;
    }
    return said;
}

static bool warm_handshake(void)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    X509 *x = key ? warm_certificate(key) : NULL;
    SSL_CTX *sc = SSL_CTX_new(TLS_server_method()), *cc = SSL_CTX_new(TLS_client_method());
    SSL *server = NULL, *client = NULL;
    bool ok = x && sc && cc && tls_settings(sc) && SSL_CTX_use_certificate(sc, x) == 1 &&
              SSL_CTX_use_PrivateKey(sc, key) == 1;
    if (ok) {
        SSL_CTX_set_verify(cc, SSL_VERIFY_PEER, NULL);
        ok = X509_STORE_add_cert(SSL_CTX_get_cert_store(cc), x) == 1 && (server = SSL_new(sc)) != NULL &&
             (client = SSL_new(cc)) != NULL;
    }
    ok = ok && warm_talk(server, client);
    SSL_free(server);
    SSL_free(client);
    SSL_CTX_free(sc);
    SSL_CTX_free(cc);
    X509_free(x);
    EVP_PKEY_free(key);
    return ok;
}

spark_status http_warm(spark_err *err)
{
    unsigned char some[16];
    tzset();
    const uint64_t how = OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS;
    if (OPENSSL_init_ssl(how, NULL) != 1 || !bio_prepare()) return tls_fail(err, "OpenSSL cannot be set up");
    if (RAND_bytes(some, sizeof some) != 1 || RAND_priv_bytes(some, sizeof some) != 1)
        return tls_fail(err, "OpenSSL has no random numbers");
    if (!warm_handshake()) return tls_fail(err, "OpenSSL does not work");
    ERR_clear_error();
    return SPARK_SUCCESS;
}

/* ---- A connection ------------------------------------------------------------------------------------------------ */

SSL *http__tls_accept(struct ssl_ctx_st *tls, int *fd)
{
    SSL *ssl = SSL_new(tls);
    BIO *b = ssl ? BIO_new(tls_bio_method) : NULL;
    if (!b) {
        SSL_free(ssl);
        return NULL;
    }
    BIO_set_data(b, fd);
    BIO_set_init(b, 1);
    SSL_set_bio(ssl, b, b);
    SSL_set_accept_state(ssl);
    return ssl;
}

static void tls_client_name(http_conn *c)
{
    X509 *x = SSL_get0_peer_certificate(c->ssl);
    BIO *b = x && SSL_get_verify_result(c->ssl) == X509_V_OK ? BIO_new(BIO_s_mem()) : NULL;
    if (!b) return;
    char *text = NULL;
    if (X509_NAME_print_ex(b, X509_get_subject_name(x), 0, XN_FLAG_RFC2253) >= 0) {
        const long n = BIO_get_mem_data(b, &text);
        c->tls_name = n > 0 ? strndup(text, (size_t)n) : NULL;
    }
    BIO_free(b);
}

/* What a failed call of SSL means: 0 = the client said goodbye, -1 with errno otherwise. */
static int tls_why(http_conn *c, int r)
{
    const int e = SSL_get_error(c->ssl, r);
    ERR_clear_error();
    if (e == SSL_ERROR_ZERO_RETURN) return 0;
    if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE) {
        if (e == SSL_ERROR_WANT_READ)
            c->readable = false;
        else
            c->writable = false;
        errno = EAGAIN;
    } else {
        errno = EPROTO;
    }
    return -1;
}

/* What OpenSSL holds against the client, before it is forgotten. */
static void tls_tell_failure(const http_conn *c)
{
    const http_handler *h = &c->server->handler;
    const unsigned long e = ERR_peek_error();
    if (!e || !h->on_tls_failed || ERR_GET_REASON(e) == SSL_R_UNEXPECTED_EOF_WHILE_READING) return;
    const char *why = ERR_reason_error_string(e);
    h->on_tls_failed(h->ctx, c->address_text, why ? why : "the handshake failed");
}

int http__tls_handshake(http_conn *c)
{
    ERR_clear_error();
    const int r = SSL_do_handshake(c->ssl);
    if (r != 1) {
        if (SSL_get_error(c->ssl, r) == SSL_ERROR_SSL) tls_tell_failure(c);
        return tls_why(c, r) < 0 && errno == EAGAIN ? 0 : -1;
    }
    c->readable = c->writable = true; /* bytes may wait inside OpenSSL, of which epoll knows nothing */
    tls_client_name(c);
    return 1;
}

ssize_t http__tls_read(http_conn *c, uint8_t *to, size_t len)
{
    size_t n = 0;
    ERR_clear_error();
    const int r = SSL_read_ex(c->ssl, to, len, &n);
    return r == 1 ? (ssize_t)n : tls_why(c, r);
}

ssize_t http__tls_write(http_conn *c, const uint8_t *from, size_t len)
{
    size_t n = 0;
    ERR_clear_error();
    const int r = SSL_write_ex(c->ssl, from, len, &n);
    if (r == 1) return (ssize_t)n;
    if (tls_why(c, r) == 0) errno = EPROTO;
    return -1;
}

void http__tls_goodbye(http_conn *c)
{
    ERR_clear_error();
    (void)SSL_shutdown(c->ssl);
    ERR_clear_error();
}
