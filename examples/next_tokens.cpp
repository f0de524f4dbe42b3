// next_tokens.cpp - the library from C++: ownership by unique_ptr, the likeliest next tokens of a text.
//     c++ -std=c++17 next_tokens.cpp $(pkg-config --cflags --libs --static spark) -o next_tokens && ./next_tokens model.gguf "The sky is"
#include <spark/spark.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct CloseModel {
    void operator()(spark_model *m) const { spark_model_close(&m); }
};
struct DestroySession {
    void operator()(spark_session *s) const { spark_session_destroy(&s); }
};
using Model = std::unique_ptr<spark_model, CloseModel>;
using Session = std::unique_ptr<spark_session, DestroySession>;

// Turns a status into an exception that carries the library's own words.
void check(spark_status status, const spark_err &err)
{
    if (status.code != SPARK_OK) throw std::runtime_error(err.text);
}

Model open_model(const char *path, spark_err &err)
{
    spark_model *m = nullptr;
    check(path ? spark_model_open(&m, path, nullptr, &err) : spark_model_open_embedded(&m, nullptr, &err), err);
    Model owned(m);
    check(spark_model_load(m, nullptr, nullptr, &err), err);
    return owned;
}

std::vector<uint32_t> tokenize(const spark_model *m, const std::string &text, spark_err &err)
{
    spark_tokens t{};
    check(spark_model_tokenize(m, text.data(), text.size(), SPARK_TOKENIZE_ADD, &t, &err), err);
    std::vector<uint32_t> ids(t.ids, t.ids + t.n);
    spark_tokens_free(&t);
    return ids;
}

std::string text_of(const spark_model *m, uint32_t id, spark_err &err)
{
    spark_buffer b{};
    check(spark_model_detokenize(m, &id, 1, &b, &err), err);
    std::string text(b.ptr, b.len);
    spark_buffer_free(&b);
    return text;
}

void print_best(spark_session *s, const spark_model *m, spark_err &err)
{
    const float *logits = nullptr;
    spark_description d;
    spark_model_describe(m, &d);
    check(spark_session_logits(s, &logits, &err), err);
    std::vector<uint32_t> order(d.n_vocab);
    std::iota(order.begin(), order.end(), 0u);
    const auto n = std::min<std::size_t>(5, order.size());
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n), order.end(),
                      [&](uint32_t a, uint32_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); });
    for (std::size_t i = 0; i < n; i++)
        std::printf("%8.4f  %6u  '%s'\n", static_cast<double>(logits[order[i]]), order[i], text_of(m, order[i], err).c_str());
}

} // namespace

int main(int argc, char **argv)
try {
    spark_err err{};
    const Model model = open_model(argc > 1 ? argv[1] : nullptr, err);
    spark_session *raw = nullptr;
    check(spark_session_create(&raw, model.get(), nullptr, &err), err);
    const Session session(raw);
    const std::vector<uint32_t> ids = tokenize(model.get(), argc > 2 ? argv[2] : "Once upon a time", err);
    check(spark_session_feed(session.get(), ids.data(), ids.size(), &err), err);
    print_best(session.get(), model.get(), err);
    return 0;
} catch (const std::exception &e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
}
