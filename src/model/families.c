/* families.c - the table of architectures: one row each, made of parts that the decoder knows.
 * Adding a family that uses known parts is adding a row. What a part means is said in model_internal.h. */
#include "model/model_internal.h"

/* X(architecture, parts) */
#define NET_FAMILY_LIST(X)                                                                                             \
    X(llama, .rope_neighbours = true, .window = NET_WINDOW_ALL, .routing = NET_MAY_ROUTE, .renormalise = true)         \
    X(qwen2, .routing = NET_DENSE)                                                                                     \
    X(qwen3, .qk_norm = true)                                                                                          \
    X(phi3, .fused_gate_up = true, .window = NET_WINDOW_ALL)                                                           \
    X(gemma2, .post_norms = true, .gelu = true, .embed_scale = true, .window = NET_WINDOW_PERIODIC,                    \
      .window_default = 4096, .window_period = 2, .attn_softcap = 50.0f, .final_softcap = 30.0f,                       \
      .wide_scale_layers = 46 /* 27B: query_pre_attn_scalar = n_embd / n_heads */)                                     \
    X(gemma3, .qk_norm = true, .post_norms = true, .gelu = true, .embed_scale = true, .window = NET_WINDOW_PERIODIC,   \
      .window_period = 6, .local_rope_base = 10000.0f, .wide_scale_layers = 62 /* 27B, as above */)                    \
    X(qwen2moe, .routing = NET_ROUTES, .shared_expert = true)                                                          \
    X(qwen3moe, .qk_norm = true, .routing = NET_ROUTES, .renormalise = true)

static const net_family net_families[] = {
#define NET_ROW(name, ...) {.arch = #name, __VA_ARGS__},
    NET_FAMILY_LIST(NET_ROW)
#undef NET_ROW
};

static const char *const net_names[] = {
#define NET_NAME(name, ...) #name,
    NET_FAMILY_LIST(NET_NAME)
#undef NET_NAME
        NULL};

const net_family *spark__net_family(spark_bytes arch)
{
    for (size_t i = 0; i < SPARK_COUNT(net_families); i++)
        if (spark_bytes_is(arch, net_families[i].arch)) return &net_families[i];
    return NULL;
}

const char *const *spark_net_families(void) { return net_names; }
