/* spark_limits.h - every maximum that hostile input can run into, with the reason for its number.
 * A parser takes the limit from here and names it in its error; nothing else in the tree invents one. */
#ifndef SPARK_BASE_LIMITS_H
#define SPARK_BASE_LIMITS_H

#include <stdint.h>

/* GGUF */
#define SPARK_MAX_GGUF_KEYS    65536u /* real files have 20-80 */
#define SPARK_MAX_GGUF_TENSORS 65536u /* the largest routed models have a few thousand */
#define SPARK_MAX_GGUF_NAME    256u   /* bytes of a tensor name or key; ggml allows 64 for tensors, 65535 for keys */
#define SPARK_MAX_GGUF_STRING  (16u << 20)  /* bytes; chat templates reach 20 KB */
#define SPARK_MAX_GGUF_ARRAY   (16u << 20)  /* elements; vocabularies reach 262144, merges 500000 */
#define SPARK_MAX_GGUF_HEAD    (256u << 20) /* bytes of header, keys and directory: vocabularies are 5-20 MB */
#define SPARK_MAX_GGUF_SPLITS  1024u        /* files of one split model */
#define SPARK_MAX_DIMS         4u           /* ggml tensors have at most four */
#define SPARK_MAX_ALIGNMENT    (1u << 20)   /* general.alignment; 32 is usual */

/* Vocabulary and text */
#define SPARK_MAX_VOCAB       (4u << 20) /* tokens; the largest in use are near 262144 */
#define SPARK_MAX_TOKEN_BYTES 65536u     /* one vocabulary entry */
#define SPARK_MAX_TEXT        (1u << 30) /* bytes of one text to tokenize */
#define SPARK_MAX_TEXT_SCRATCH                                                                                         \
    ((size_t)1 << 30) /* bytes that a cell plans for the text of a request: some 10 MB of JSON */

/* Model shapes: far above what exists, small enough that products of three stay in 64 bits */
#define SPARK_MAX_LAYERS   1024u
#define SPARK_MAX_HEADS    1024u
#define SPARK_MAX_HEAD_DIM 1024u
#define SPARK_MAX_EMBD     (1u << 20)
#define SPARK_MAX_FF       (1u << 22)
#define SPARK_MAX_EXPERTS  1024u
#define SPARK_MAX_CTX      (1u << 24)
#define SPARK_MAX_SEQS     4096u      /* sequences of one engine at once */
#define SPARK_MAX_KV_PAGES (1u << 29) /* of 128 positions: what SEQS of CTX can fill */
#define SPARK_MAX_BATCH    65536u     /* rows of one forward pass; 512 is usual */

/* Chat templates: a template is a program from a hostile file */
#define SPARK_MAX_TEMPLATE_BYTES  (1u << 20)   /* the longest real one has 24 KB */
#define SPARK_MAX_TEMPLATE_DEPTH  64u          /* nesting of blocks, expressions and calls, each */
#define SPARK_MAX_TEMPLATE_STACK  1000u        /* nodes being evaluated at once, all calls together: 1 MB of C stack */
#define SPARK_MAX_TEMPLATE_RANGE  100000u      /* items of one range(): MAX_RANGE of Jinja2's sandbox */
#define SPARK_MAX_TEMPLATE_STEPS  4000000u     /* evaluated nodes in one rendering; real ones need below 100000 */
#define SPARK_MAX_TEMPLATE_OUTPUT (16u << 20)  /* bytes rendered */
#define SPARK_MAX_TEMPLATE_MEMORY (128u << 20) /* bytes of values alive in one rendering */
#define SPARK_MAX_JSON_DEPTH      128u

/* HTTP: what is not a setting of the server (http_limits) */
#define SPARK_MAX_HTTP_QUERY            32u   /* query parameters of one request; our routes know a handful */
#define SPARK_MAX_HTTP_CHUNK_EXTENSIONS 1024u /* bytes of all chunk extensions of one body, which nobody reads */
#define SPARK_MAX_HTTP_TRAILERS         2048u /* bytes of trailers, which nobody reads */
#define SPARK_MAX_HTTP_AHEAD            16384u /* bytes read behind a request that is being answered, to see its client leave */

/* Requests */
#define SPARK_MAX_WAITING    (1u << 20) /* requests in the queue of one engine */
#define SPARK_MAX_STOPS      64u        /* stop strings of one request */
#define SPARK_MAX_STOP_BYTES 1024u
#define SPARK_MAX_LOGIT_BIAS 4096u
#define SPARK_MAX_LOGPROBS   64u
#define SPARK_MAX_ASK        (4u << 20) /* bytes of one request on the wire: the longest context in use takes about 1 MiB */
#define SPARK_MAX_JSON_MEMORY                                                                                          \
    (48u << 20) /* bytes that the values of one body may take while it is parsed; ids of a 1M context take 40 MB */
#define SPARK_MAX_CHOICES    64u         /* answers of one request: prompts times n */
#define SPARK_MAX_REPLY      (32u << 20) /* bytes of one reply that does not stream; logprobs take about 2 KB a token */
#define SPARK_MAX_MODEL_NAME 256u

/* Settings and keys: written by operators, read before anything is served */
#define SPARK_MAX_CONFIG_BYTES (1u << 20) /* settings; real files have 1-4 KB */
#define SPARK_MAX_KEYS_BYTES   (8u << 20) /* the key file: 4096 keys with all they may hold and comments */
#define SPARK_MAX_KEYS         4096u      /* keys of one file, the revoked ones included */
#define SPARK_MAX_KEY_RATE     50000000u /* requests or tokens a minute: no machine does more, and sums stay in 64 bits */
#define SPARK_MAX_SETTING_LINE 4096u     /* bytes of one line */
#define SPARK_MAX_SETTING_LIST 64u       /* items of one list: CLI_MAX_TEXTS, what flags can give */
#define SPARK_MAX_SERVED       64u       /* models of one server */
#define SPARK_MAX_SERVED_NAME  128u      /* bytes of the name a model is served by */

#endif
