"""spark bench: the shape of its answer. How fast it is depends on the machine: bench/run and docs/BENCHMARKS.md."""
import subprocess, unittest

from support import SPARK, SYNTHETIC, Folder, is_one_error_line, spark, spark_json



class Bench(Folder):
    def setUp(self):
        super().setUp()
        self.model = self.dir / 'nano.gguf'
        subprocess.run([SYNTHETIC, 'nano', 'q4_0', self.model], check=True)

    def bench(self, *options):
        return spark_json('bench', self.model, '--json', '--reps', 3, *options)

    def test_json_has_machine_limits_and_a_result_a_test(self):
        out = self.bench('--pp', 40, '--tg', 4, '--threads', 2)
        self.assertIn('cpu', out['machine'])
        self.assertGreater(out['limits']['read_gbs']['1'], 0)
        self.assertEqual([r['test'] for r in out['results']], ['pp40', 'tg4'])
        for r in out['results']:
            self.assertTrue(0 < r['min_tps'] <= r['median_tps'] <= r['max_tps'], r)
            self.assertEqual((r['threads'], r['reps']), (2, 3))

    def test_names_tell_batch_and_depth(self):
        out = self.bench('--pp', 16, '--tg', 4, '--batch', 3, '--depth', 10)
        self.assertEqual([r['test'] for r in out['results']], ['pp16+10', 'tg4@3+10'])
        self.assertEqual([r['test'] for r in self.bench('--pp', 0, '--tg', 2, '--batch', 20)['results']], ['tg2@20'])
        self.assertEqual([r['test'] for r in self.bench('--pp', 2, '--tg', 0, '--kv', 'q8_0')['results']], ['pp2'])

    def test_the_peak_of_memory_is_near_the_plan(self):
        memory = self.bench('--pp', 40, '--tg', 4)['memory']
        self.assertLess(memory['peak'], memory['plan'] + (16 << 20) if 'asan' not in SPARK else 1 << 40)

    def test_text_names_limits_and_speeds(self):
        code, out, err = spark('bench', self.model, '--pp', 16, '--tg', 2, '--reps', 1)
        self.assertEqual(code, 0, err)
        for word in b'machine', b'memory read', b'pp16', b'tg2':
            self.assertIn(word, out)

    def test_what_cannot_be_measured_is_refused_in_one_line(self):
        for args, expected in (['--pp', 0, '--tg', 0], 2), (['--ctx', 100], 1), (['--depth', 600], 1), (['--reps', 0], 2), (['--batch', 0], 2), (['x'], 2):
            code, out, err = spark('bench', self.model, *args)
            self.assertEqual((code, out), (expected, b''), (args, err))
            self.assertTrue(is_one_error_line(err), err)


if __name__ == '__main__':
    unittest.main()
