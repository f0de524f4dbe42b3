/* no_plugins.c - what the one static binary does not have: shared objects to load, names to look up in the network, accounts to look up.
 * OpenSSL, libevent and libedit contain calls for them that nothing here takes. Linked statically, libc's own versions would come along, warn at
 * link time, and load shared libraries of the machine if they were ever reached. These refuse. Not for dynamic builds (sanitizers). */
#include <dlfcn.h>
#include <netdb.h>
#include <pwd.h>
#include <stddef.h>

/* By the linker's --wrap: libc has a dlopen of its own here, for conversions of character sets, and would warn of OpenSSL's calls. */
void *__wrap_dlopen(const char *file, int mode);
void *__wrap_dlopen(const char *file, int mode)
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

/* Accounts: libedit's, to complete user names and to find a home for a history file. There are none. */

struct passwd *getpwent(void) { return NULL; }
void setpwent(void) {}
void endpwent(void) {}

struct passwd *getpwuid(uid_t uid)
{
    (void)uid;
    return NULL;
}

/* NOLINTBEGIN(readability-non-const-parameter): POSIX's type */
int getpwuid_r(uid_t uid, struct passwd *restrict entry, char *restrict buf, size_t len,
               struct passwd **restrict result)
{
    (void)uid;
    (void)entry;
    (void)buf;
    (void)len;
    *result = NULL;
    return 0;
}

int getpwnam_r(const char *restrict name, struct passwd *restrict entry, char *restrict buf, size_t len,
               struct passwd **restrict result)
{
    (void)name;
    (void)entry;
    (void)buf;
    (void)len;
    *result = NULL;
    return 0;
}
/* NOLINTEND(readability-non-const-parameter) */
