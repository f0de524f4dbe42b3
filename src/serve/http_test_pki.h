/* http_test_pki.h - an authority, a server's certificate and a client's, made on the spot; for tests and benches only. */
#ifndef SPARK_SERVE_HTTP_TEST_PKI_H
#define SPARK_SERVE_HTTP_TEST_PKI_H

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "base/bytes.h"

typedef struct test_pki {
    EVP_PKEY *ca_key, *server_key, *client_key;
    X509 *ca, *server, *client;
    spark_bytes cert, key, authority; /* PEM: of the server; of the CA */
    uint8_t *owned[3];
} test_pki;

SPARK_UNUSED static X509 *test_pki_sign(EVP_PKEY *key, const char *name, X509 *issuer, EVP_PKEY *issuer_key)
{
    static long serial = 1;
    X509 *x = X509_new();
    X509_NAME *n = X509_get_subject_name(x);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : n);
    X509_set_pubkey(x, key);
    if (!issuer) {
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    if (X509_sign(x, issuer_key, EVP_sha256()) <= 0) abort();
    return x;
}

SPARK_UNUSED static spark_bytes test_pki_pem(X509 *x, EVP_PKEY *key, uint8_t **owned)
{
    BIO *b = BIO_new(BIO_s_mem());
    char *p = NULL;
    if (x) PEM_write_bio_X509(b, x);
    if (key) PEM_write_bio_PrivateKey(b, key, NULL, NULL, 0, NULL, NULL);
    const size_t n = (size_t)BIO_get_mem_data(b, &p);
    uint8_t *copy = malloc(n);
    if (!copy) abort();
    memcpy(copy, p, n);
    BIO_free(b);
    *owned = copy;
    return (spark_bytes){copy, n};
}

SPARK_UNUSED static void test_pki_create(test_pki *p)
{
    p->ca_key = EVP_EC_gen("P-256");
    p->server_key = EVP_EC_gen("P-256");
    p->client_key = EVP_EC_gen("P-256");
    p->ca = test_pki_sign(p->ca_key, "test authority", NULL, p->ca_key);
    p->server = test_pki_sign(p->server_key, "localhost", p->ca, p->ca_key);
    p->client = test_pki_sign(p->client_key, "ward 7", p->ca, p->ca_key);
    p->cert = test_pki_pem(p->server, NULL, &p->owned[0]);
    p->key = test_pki_pem(NULL, p->server_key, &p->owned[1]);
    p->authority = test_pki_pem(p->ca, NULL, &p->owned[2]);
}

SPARK_UNUSED static void test_pki_destroy(test_pki *p)
{
    for (int i = 0; i < 3; i++) free(p->owned[i]);
    X509_free(p->ca);
    X509_free(p->server);
    X509_free(p->client);
    EVP_PKEY_free(p->ca_key);
    EVP_PKEY_free(p->server_key);
    EVP_PKEY_free(p->client_key);
}

#endif
