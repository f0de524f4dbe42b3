/* http_bench.c - what the HTTP server costs on this machine, with a constant reply over loopback.
 *     http_bench serve PORT [tls]   serves until killed; for wrk and its like
 *     http_bench speed              requests a second of CPU of one server, own client, 64 connections with keep-alive
 *     http_bench burst [N]          N (1000) fresh connections at once: time until all are answered
 *     http_bench idle [N] [tls]     N (10000) idle connections: memory of the server (needs descriptors: ulimit -n)
 * The server is a child process with a loop of its own, so that its CPU time and memory are its own. */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/tcp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "serve/http.h"
#include "serve/http_test_pki.h"

static const char bench_request[] = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

static void bench_answer(void *ctx, http_exchange *x)
{
    (void)ctx;
    http_reply(x, 200, "application/json", SPARK_BYTES_LITERAL("{\"status\":\"ok\"}\n"), NULL, 0);
}

static void bench_die(const char *what)
{
    fprintf(stderr, "http_bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int bench_listen(uint16_t port)
{
    const int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 4096) != 0) bench_die("listen");
    return fd;
}

static void bench_serve(int fd, bool tls)
{
    spark_err err = {0};
    struct ssl_ctx_st *ctx = NULL;
    struct event_base *base = event_base_new();
    http_limits limits;
    http_server *s = NULL;
    const http_handler handler = {.on_request = bench_answer};
    http_limits_defaults(&limits);
    limits.max_connections = limits.max_connections_per_address = 0;
    if (http_warm(&err).code) bench_die(err.text);
    if (tls) {
        test_pki p;
        test_pki_create(&p);
        if (http_tls_create(&ctx, p.cert, p.key, (spark_bytes){NULL, 0}, &err).code) bench_die(err.text);
        test_pki_destroy(&p);
    }
    if (!base || http_server_create(&s, base, &limits, &handler, &err).code) bench_die(err.text);
    const http_listener l = {.fd = fd, .tls = ctx};
    if (http_server_listen(s, &l, &err).code) bench_die(err.text);
    event_base_dispatch(base);
    http_server_destroy(&s);
    http_tls_destroy(&ctx);
    event_base_free(base);
    exit(0);
}

static pid_t bench_start(bool tls, struct sockaddr_in *a)
{
    socklen_t len = sizeof *a;
    const int fd = bench_listen(0);
    if (getsockname(fd, (struct sockaddr *)a, &len) != 0) bench_die("getsockname");
    const pid_t pid = fork();
    if (pid == 0) bench_serve(fd, tls);
    close(fd);
    return pid;
}

static int bench_connect(const struct sockaddr_in *a, int flags)
{
    const int on = 1, fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    if (fd < 0) bench_die("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (const struct sockaddr *)a, sizeof *a) != 0 && errno != EINPROGRESS) bench_die("connect");
    return fd;
}

static double bench_cpu_s(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    unsigned long user = 0, system = 0;
    if (!f || !fgets(text, sizeof text, f) ||
        sscanf(strrchr(text, ')') + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        bench_die("stat");
    fclose(f);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static long bench_rss_kb(pid_t pid)
{
    char path[64], line[256];
    long kb = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f) bench_die("status");
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "VmRSS: %ld", &kb) == 1) break;
    fclose(f);
    return kb;
}

static void bench_stop(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void bench_speed(void)
{
    enum { CLIENTS = 64 };
    struct sockaddr_in a;
    const pid_t pid = bench_start(false, &a);
    const int ep = epoll_create1(0);
    char buffer[4096];
    for (int i = 0; i < CLIENTS; i++) {
        const int fd = bench_connect(&a, 0);
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
        if (write(fd, bench_request, sizeof bench_request - 1) < 0) bench_die("write");
    }
    const double cpu = bench_cpu_s(pid);
    const uint64_t began = spark_clock_ns();
    uint64_t n = 0;
    while (spark_clock_ns() - began < 3000000000u) {
        struct epoll_event e[CLIENTS];
        const int k = epoll_wait(ep, e, CLIENTS, 1000);
        for (int i = 0; i < k; i++) {
            if (read(e[i].data.fd, buffer, sizeof buffer) <= 0 ||
                write(e[i].data.fd, bench_request, sizeof bench_request - 1) < 0)
                bench_die("exchange");
            n++;
        }
    }
    const double s = (double)(spark_clock_ns() - began) / 1e9, used = bench_cpu_s(pid) - cpu;
    printf("speed: %.0f requests/s, %.0f per second of the server's CPU (it used %.0f %% of a core)\n", (double)n / s,
           (double)n / used, 100 * used / s);
    bench_stop(pid);
}

static void bench_burst(int n)
{
    struct sockaddr_in a;
    const pid_t pid = bench_start(false, &a);
    int *fds = calloc((size_t)n, sizeof *fds);
    const int ep = epoll_create1(0);
    usleep(300000);
    const uint64_t began = spark_clock_ns();
    for (int i = 0; i < n; i++) {
        fds[i] = bench_connect(&a, SOCK_NONBLOCK);
        struct epoll_event e = {.events = EPOLLOUT, .data.fd = fds[i]};
        epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &e);
    }
    int answered = 0, failed = 0;
    uint64_t last = 0;
    while (answered + failed < n && spark_clock_ns() - began < 5000000000u) {
        struct epoll_event e[256];
        const int k = epoll_wait(ep, e, 256, 1000);
        for (int i = 0; i < k; i++) {
            char buffer[2048];
            struct epoll_event in = {.events = EPOLLIN, .data.fd = e[i].data.fd};
            if (e[i].events & EPOLLOUT) {
                if (write(e[i].data.fd, bench_request, sizeof bench_request - 1) < 0) failed++;
                epoll_ctl(ep, EPOLL_CTL_MOD, e[i].data.fd, &in);
            } else {
                const ssize_t got = read(e[i].data.fd, buffer, sizeof buffer);
                answered += got > 12 && memcmp(buffer, "HTTP/1.1 200", 12) == 0;
                failed += got <= 12;
                epoll_ctl(ep, EPOLL_CTL_DEL, e[i].data.fd, NULL);
                last = spark_clock_ns();
            }
        }
    }
    printf("burst: %d of %d fresh connections answered in %.0f ms, %d failed\n", answered, n,
           (double)(last - began) / 1e6, failed);
    bench_stop(pid);
    free(fds);
}

static void bench_tls_client(int fd, SSL_CTX *ctx, SSL **out)
{
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    if (SSL_connect(ssl) != 1) bench_die("TLS");
    *out = ssl; /* kept: freeing it says nothing to the server, but the session is its */
}

static void bench_idle(int n, bool tls)
{
    struct sockaddr_in a;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    const pid_t pid = bench_start(tls, &a);
    SSL_CTX *ctx = tls ? SSL_CTX_new(TLS_client_method()) : NULL;
    SSL **ssl = calloc((size_t)n, sizeof *ssl);
    char buffer[4096];
    long before = 0;
    for (int i = 0; i < n; i++) {
        const int fd = bench_connect(&a, 0);
        if (i == 0) before = bench_rss_kb(pid);
        if (tls) {
            bench_tls_client(fd, ctx, &ssl[i]);
            if (SSL_write(ssl[i], bench_request, sizeof bench_request - 1) <= 0 ||
                SSL_read(ssl[i], buffer, sizeof buffer) <= 0)
                bench_die("exchange");
        } else if (write(fd, bench_request, sizeof bench_request - 1) < 0 || read(fd, buffer, sizeof buffer) <= 0) {
            bench_die("exchange");
        }
    }
    const long after = bench_rss_kb(pid);
    printf("idle%s: %d connections, each after one request: RSS %.1f MB (%.1f MB before), %.2f KB each\n",
           tls ? " tls" : "", n, (double)after / 1024, (double)before / 1024, (double)(after - before) / n);
    bench_stop(pid);
    for (int i = 0; i < n; i++) SSL_free(ssl[i]);
    free(ssl);
    SSL_CTX_free(ctx);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "speed";
    const bool tls = argc > 2 && strcmp(argv[argc - 1], "tls") == 0;
    const int n = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0;
    signal(SIGPIPE, SIG_IGN);
    if (strcmp(what, "serve") == 0)
        bench_serve(bench_listen((uint16_t)n), tls);
    else if (strcmp(what, "speed") == 0)
        bench_speed();
    else if (strcmp(what, "burst") == 0)
        bench_burst(n ? n : 1000);
    else if (strcmp(what, "idle") == 0)
        bench_idle(n ? n : 10000, tls);
    else
        bench_die("serve, speed, burst or idle");
    return 0;
}
