/* types.c - the table of types.h, indexed by GGUF id. */
#include "kern/types.h"

#include <strings.h>

static const spark_type_info type_table[SPARK_N_TYPES] = {
#define TYPE_ROW(name, id, elems, bytes, act) [id] = {#name, elems, bytes, act},
    SPARK_TYPE_LIST(TYPE_ROW)
#undef TYPE_ROW
};

const spark_type_info *spark_type_lookup(uint32_t id)
{
    return id < SPARK_N_TYPES && type_table[id].name ? &type_table[id] : NULL;
}

int spark_type_by_name(const char *name)
{
    for (int id = 0; id < SPARK_N_TYPES; id++)
        if (type_table[id].name && strcasecmp(type_table[id].name, name) == 0) return id;
    return -1;
}
