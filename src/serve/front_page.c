/* front_page.c - what stands at "/". */
#include "serve/front_internal.h"

void front_page(front *f, http_exchange *x)
{
    static const http_field none[1];
    front_reply(f, x, 200, "text/plain; charset=utf-8", SPARK_BYTES_LITERAL(API_ROOT_TEXT), none, 0);
}
