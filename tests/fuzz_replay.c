/* fuzz_replay.c - runs a fuzz target over its kept corpus as an ordinary test: every file of the folders named. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) return 0;
    fseek(f, 0, SEEK_END);
    const long n = ftell(f);
    rewind(f);
    uint8_t *data = n >= 0 ? malloc((size_t)n + 1) : NULL; /* exact size, so that ASan sees one byte too far */
    const int readable = data && fread(data, 1, (size_t)n, f) == (size_t)n;
    uint8_t *exact = readable ? realloc(data, n ? (size_t)n : 1) : NULL;
    if (exact) (void)LLVMFuzzerTestOneInput(exact, (size_t)n);
    free(exact ? exact : data);
    fclose(f);
    return exact != NULL;
}

int main(int argc, char **argv)
{
    int n_files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (!dir) {
            fprintf(stderr, "fuzz_replay: no corpus folder %s\n", argv[i]);
            return 1;
        }
        for (struct dirent *e; (e = readdir(dir)) != NULL;) {
            char path[4096];
            if (e->d_name[0] == '.') continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
            n_files += replay_file(path);
        }
        closedir(dir);
    }
    printf("%d inputs replayed\n", n_files);
    return n_files > 0 ? 0 : 1; /* an empty corpus would be a test that cannot fail */
}
