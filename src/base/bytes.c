/* bytes.c - the cursor: every read compares on the trusted side. */
#include "base/bytes.h"

#include <inttypes.h>

spark_status spark_cursor_take(spark_cursor *c, uint64_t n, spark_bytes *out, spark_err *err)
{
    SPARK_CHECK(n <= spark_cursor_left(c), err, SPARK_E_FORMAT, c->pos,
                "the file ends here: %" PRIu64 " bytes needed, %zu left", n, spark_cursor_left(c));
    *out = (spark_bytes){c->base + c->pos, (size_t)n};
    c->pos += (size_t)n;
    return SPARK_SUCCESS;
}

spark_status spark_cursor_u8(spark_cursor *c, uint8_t *out, spark_err *err)
{
    spark_bytes b = {0};
    SPARK_TRY(spark_cursor_take(c, 1, &b, err));
    *out = b.ptr[0];
    return SPARK_SUCCESS;
}

spark_status spark_cursor_u16(spark_cursor *c, uint16_t *out, spark_err *err)
{
    spark_bytes b = {0};
    SPARK_TRY(spark_cursor_take(c, 2, &b, err));
    *out = spark_load_u16(b.ptr);
    return SPARK_SUCCESS;
}

spark_status spark_cursor_u32(spark_cursor *c, uint32_t *out, spark_err *err)
{
    spark_bytes b = {0};
    SPARK_TRY(spark_cursor_take(c, 4, &b, err));
    *out = spark_load_u32(b.ptr);
    return SPARK_SUCCESS;
}

spark_status spark_cursor_u64(spark_cursor *c, uint64_t *out, spark_err *err)
{
    spark_bytes b = {0};
    SPARK_TRY(spark_cursor_take(c, 8, &b, err));
    *out = spark_load_u64(b.ptr);
    return SPARK_SUCCESS;
}
