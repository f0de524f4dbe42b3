/* no_plugins.c - what the one static binary does not have: shared objects to load, and names to look up in the network.
 * OpenSSL and libevent contain calls for both that nothing here takes. Linked statically, libc's own versions would come along, warn at
 * link time, and load shared libraries of the machine if they were ever reached. These refuse. Not for dynamic builds (sanitizers). */
#include <dlfcn.h>
#include <netdb.h>
#include <stddef.h>

/* In parentheses because calls of it are banned (tools/lint). */
void *(dlopen)(const char *file, int mode)
{
    (void)file;
    (void)mode;
    return NULL;
}

void *dlsym(void *restrict handle, const char *restrict name)
{
    (void)handle;
    (void)name;
    return NULL;
}

int dlclose(void *handle)
{
    (void)handle;
    return -1;
}

char *dlerror(void)
{
    static char text[] = "this program loads no shared objects";
    return text;
}

int dladdr(const void *address, Dl_info *info)
{
    (void)address;
    (void)info;
    return 0;
}

int getaddrinfo(const char *restrict name, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict result)
{
    (void)name;
    (void)service;
    (void)hints;
    (void)result;
    return EAI_FAIL;
}

void freeaddrinfo(struct addrinfo *a) { (void)a; }

/* NOLINTBEGIN(readability-non-const-parameter): POSIX's type */
int getnameinfo(const struct sockaddr *restrict a, socklen_t n, char *restrict host, socklen_t host_len,
                char *restrict service, socklen_t len, int flags)
{
    (void)a;
    (void)n;
    (void)host;
    (void)host_len;
    (void)service;
    (void)len;
    (void)flags;
    return EAI_FAIL;
}
/* NOLINTEND(readability-non-const-parameter) */

struct hostent *gethostbyname(const char *name)
{
    (void)name;
    return NULL;
}

struct servent *getservbyname(const char *name, const char *protocol)
{
    (void)name;
    (void)protocol;
    return NULL;
}

struct protoent *getprotobynumber(int number)
{
    (void)number;
    return NULL;
}
