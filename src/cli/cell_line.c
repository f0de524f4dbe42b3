/* cell_line.c - lines from a terminal, by libedit. History is kept in memory only: what people type here may be nobody else's business.
 * In the warden, because libedit opens what it wants when it wants (terminals, locales), and what is typed is no foreign byte. */
#include <editline/readline.h>
#include <locale.h>
#include <stdlib.h>

#include "cli/cell.h"

static volatile sig_atomic_t line_interrupted;

static void line_interrupt(int signal_number)
{
    (void)signal_number;
    line_interrupted = 1;
}

static void line_begin(void)
{
    static bool begun;
    if (begun) return;
    begun = true;
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1)
        setlocale(LC_CTYPE, "C.UTF-8"); /* else libedit drops what is not ASCII */
    rl_bind_key('\t', rl_insert);       /* a tab is text: no names of files or users are looked up */
}

/* Ctrl-C at the prompt, perhaps meant for an answer that has just ended, loses the line and not the conversation; a second one leaves,
 * like Ctrl-D. */
static char *line_read(const char *prompt)
{
    for (int tries = 0; tries < 2; tries++) {
        line_interrupted = 0;
        char *line = readline(prompt);
        if (line || !line_interrupted) return line;
        if (tries == 0) fputs("\n(Ctrl-C again or Ctrl-D leaves)\n", stderr);
    }
    return NULL;
}

char *cli_edit_line(const char *prompt, const sigset_t *mask)
{
    const struct sigaction at_prompt = {.sa_handler = line_interrupt}; /* no SA_RESTART: readline returns */
    struct sigaction before;
    sigset_t blocked;
    line_begin();
    sigaction(SIGINT, &at_prompt, &before);
    if (mask) sigprocmask(SIG_SETMASK, mask, &blocked);
    char *line = line_read(prompt);
    if (mask) sigprocmask(SIG_SETMASK, &blocked, NULL);
    sigaction(SIGINT, &before, NULL);
    if (line && *line) add_history(line);
    return line;
}
