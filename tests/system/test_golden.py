"""Logits of other engines: every architecture and every weight format, with f16 and with f32 keys and values."""
import array, json, re, subprocess, sys, tempfile, unittest

from support import DATA, ROOT, SPARK, needs_data, spark, spark_json

FAMILIES = 'llama,mixtral,qwen2,qwen3,phi3,gemma2,gemma3,quant-'
REFUSED = ['bert-mean', 'command-r', 'deepseek2-lite', 'falcon', 'gemma', 'glm4', 'gpt-oss', 'gpt2', 'olmo2', 'phi2', 'smollm3', 'starcoder2']


@needs_data
class Golden(unittest.TestCase):
    def check(self, *options):
        p = subprocess.run([sys.executable, DATA / 'golden/check_golden.py', SPARK, DATA / 'golden', '--only', FAMILIES, *options], capture_output=True, text=True)
        good, total = map(int, re.search(r'(\d+)/(\d+) cases within bounds', p.stdout).groups())
        self.assertEqual((good, p.returncode), (total, 0), p.stdout)
        self.assertGreaterEqual(total, 47)

    def test_logits_lie_within_the_bounds(self):
        self.check()

    def test_logits_lie_within_the_narrow_bounds_with_f32_cache(self):
        self.check('--strict')

    def test_other_families_are_refused_by_name(self):
        for name in REFUSED:
            with open(DATA / 'golden' / name / 'case.json') as f:
                arch = json.load(f)['arch']
            code, _, err = spark('inspect', DATA / 'golden' / name / 'model.gguf')
            self.assertEqual(code, 1, name)
            self.assertIn(f"'{arch}'", err)


@needs_data
class TrainedModels(unittest.TestCase):
    """shared/data/llm: real weights, float64 results."""

    def models(self):
        for name in 'stories260K', 'babyllama361':
            with open(DATA / f'llm/{name}/{name}.expected.json') as f:
                yield name, json.load(f)

    def test_f32_models_answer_greedily_as_expected(self):
        for name, expected in self.models():
            for case in expected['cases']:
                want, margins = case['greedy'], case['margins']
                got = spark_json('run', DATA / f'llm/{name}/{name}.f32.gguf', case['prompt'], '--raw', '--temp', 0, '-n', len(want), '--kv', 'f32', '--json')
                self.assertEqual(got['prompt_ids'], case['ids'], (name, case['prompt']))
                for i, (a, b) in enumerate(zip(got['ids'], want)):
                    if a != b:
                        self.assertLess(margins[i], 1e-3, (name, case['prompt'], i))
                        break

    def test_f32_likelihood_of_a_text_is_as_expected(self):
        for name, expected in self.models():
            for case in expected['nll']:
                got = spark_json('score', DATA / f'llm/{name}/{name}.f32.gguf', '-', '--kv', 'f32', '--ctx', 256, '--json', stdin=case['text'].encode())
                self.assertEqual(got['tokens'], len(case['ids']))
                self.assertAlmostEqual(got['mean_nll'], case['mean_nll'], delta=1e-4)

    def test_smaller_weights_stay_within_their_bounds(self):
        """Measured on both models: the mean negative log-likelihood moves by less than this (nats) against F32."""
        bound = {'f16': 0.002, 'q8_0': 0.01, 'q4_0': 0.1}
        for name, expected in self.models():
            for kind, most in bound.items():
                for case in expected['nll']:
                    got = spark_json('score', DATA / f'llm/{name}/{name}.{kind}.gguf', '-', '--ctx', 256, '--json', stdin=case['text'].encode())
                    self.assertLess(abs(got['mean_nll'] - case['mean_nll']), most, (name, kind))

    def test_f32_logits_are_within_a_thousandth(self):
        for name, expected in self.models():
            for case in expected['cases']:
                with tempfile.NamedTemporaryFile(suffix='.npy') as out:
                    code, _, err = spark('score', DATA / f'llm/{name}/{name}.f32.gguf', '--tokens', ','.join(map(str, case['ids'])), '--kv', 'f32', '--logits', out.name)
                    self.assertEqual(code, 0, err)
                    x = array.array('f', out.read()[-4 * len(case['logits']):])
                self.assertLess(max(abs(a - b) for a, b in zip(x, case['logits'])), 1e-3, (name, case['prompt']))


class DemoModel(unittest.TestCase):
    """The embedded model against float64 on its dequantized weights (tools/demo-model/expected.json): needs no shared data.
    Activations are rounded to int8, so logits differ; the bounds are about twice what was measured."""

    with open(ROOT / 'tools/demo-model/expected.json') as f:
        expected = json.load(f)

    def test_greedy_text_agrees_until_two_logits_are_nearly_equal(self):
        for case in self.expected['cases']:
            got = spark_json('run', case['prompt'], '--temp', 0, '-n', len(case['greedy']), '--kv', 'f32', '--json')
            self.assertEqual(got['prompt_ids'], case['ids'])
            for mine, want, margin in zip(got['ids'], case['greedy'], case['margins']):
                if mine != want:
                    self.assertLess(margin, 0.25, case['prompt'])
                    break

    def test_likelihoods_agree(self):
        for case in self.expected['nll']:
            with tempfile.NamedTemporaryFile() as text:
                text.write(case['text'].encode())
                text.flush()
                got = spark_json('score', ROOT / 'tools/demo-model/demo-model.gguf', text.name, '--kv', 'f32', '--json')
            self.assertAlmostEqual(got['mean_nll'], case['mean_nll'], delta=0.005)


if __name__ == '__main__':
    unittest.main()
