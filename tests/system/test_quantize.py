"""spark quantize: what each tensor becomes, how near its values stay, and that OUT appears whole or not at all."""
import array, math, pathlib, re, signal, struct, subprocess, time, unittest

from gguf_edit import split
from support import DATA, SPARK, SYNTHETIC, Folder, is_one_error_line, needs_data, spark, spark_json


class Quantize(Folder):
    def model(self, shape='nano', kind='f32'):
        path = self.dir / f'{shape}-{kind}.gguf'
        subprocess.run([SYNTHETIC, shape, kind, path], check=True)
        return path

    def quantize(self, path, kind, *options):
        out = self.dir / f'out-{kind}.gguf'
        code, stdout, err = spark('quantize', path, out, '--type', kind, *options)
        self.assertEqual((code, stdout), (0, b''), err)
        return out, err

    def types(self, path):
        return {t['name']: t['type'] for t in spark_json('inspect', path, '--json')['tensors']}

    def tensor(self, path, name):
        t = next(t for t in spark_json('inspect', path, '--json')['tensors'] if t['name'] == name)
        with open(path, 'rb') as f:
            f.seek(t['offset'])
            return f.read(t['bytes'])

    # ---- Types and keys ----

    def test_matrices_take_the_type_and_vectors_stay(self):
        out, _ = self.quantize(self.model(), 'Q8_0')
        for name, kind in self.types(out).items():
            self.assertEqual(kind, 'F32' if 'norm' in name else 'Q8_0', name)

    def test_rows_that_blocks_of_256_do_not_fit_take_q5_0_for_q4_k_and_q8_0_for_q6_k_and_are_named(self):
        path = self.model()
        for kind, instead in ('Q4_K', 'Q5_0'), ('Q6_K', 'Q8_0'):
            out, err = self.quantize(path, kind)
            types = self.types(out)
            self.assertEqual(types['blk.1.ffn_down.weight'], instead)
            self.assertEqual(types['blk.1.ffn_up.weight'], kind)
            self.assertIn(f'blk.1.ffn_down.weight takes {instead}', err)
            self.assertNotIn('ffn_up', err)

    def test_four_bit_types_keep_six_bits_behind_the_logits_and_say_so(self):
        out, err = self.quantize(self.model(), 'Q4_0')
        types = self.types(out)
        self.assertEqual((types['output.weight'], types['token_embd.weight']), ('Q6_K', 'Q4_0'))
        self.assertIn('output.weight takes Q6_K', err)

    def test_a_model_in_several_files_is_the_same_model(self):
        path = self.model()
        parts = split(path.read_bytes(), 3)
        for i, part in enumerate(parts):
            (self.dir / f'part-{i + 1:05}-of-00003.gguf').write_bytes(part)
        first = self.dir / 'part-00001-of-00003.gguf'
        one, _ = self.quantize(path, 'Q8_0')
        (self.dir / 'of-parts').mkdir()
        code, _, err = spark('quantize', first, self.dir / 'of-parts/out.gguf', '--type', 'Q8_0')
        self.assertEqual(code, 0, err)
        for t in spark_json('inspect', one, '--json')['tensors']:
            self.assertEqual(self.tensor(one, t['name']), self.tensor(self.dir / 'of-parts/out.gguf', t['name']), t['name'])
        answers = [spark('run', p, 'a', '--raw', '-n', 8, '--temp', 0)[:2] for p in (path, first)]
        self.assertEqual(answers[0][0], 0)
        self.assertEqual(answers[0], answers[1])
        (self.dir / 'part-00002-of-00003.gguf').unlink()
        code, _, err = spark('inspect', first)
        self.assertNotEqual(code, 0)
        self.assertTrue(is_one_error_line(err) and 'part-00002-of-00003.gguf' in err, err)

    def test_keys_are_copied_and_the_file_type_is_set(self):
        path = self.model()
        out, _ = self.quantize(path, 'Q6_K')
        before, after = (spark_json('inspect', p, '--json')['metadata'] for p in (path, out))
        self.assertEqual((after.pop('general.file_type'), after.pop('general.quantization_version')), (18, 2))
        before.pop('general.file_type'), before.pop('general.quantization_version')
        self.assertEqual(before, after)

    def test_every_type_gives_a_model_that_computes(self):
        path = self.model()
        for kind in 'Q8_0', 'Q4_0', 'Q4_K', 'Q6_K', 'F16', 'BF16':
            out, _ = self.quantize(path, kind)
            code, _, err = spark('score', out, '--tokens', '1,2,3,4,5')
            self.assertEqual(code, 0, err)

    # ---- Values ----

    def test_q8_0_is_at_least_as_near_as_the_plain_formula(self):
        path = self.model()
        out, _ = self.quantize(path, 'Q8_0')
        values = array.array('f', self.tensor(path, 'blk.0.attn_q.weight'))
        blocks = self.tensor(out, 'blk.0.attn_q.weight')
        ours = plain = 0.0
        for b in range(len(values) // 32):
            block = blocks[34 * b:34 * b + 34]
            d = struct.unpack('<e', block[:2])[0]
            x = values[32 * b:32 * b + 32]
            simple = struct.unpack('<e', struct.pack('<e', max(map(abs, x)) / 127))[0]
            ours += sum((v - d * q) ** 2 for v, q in zip(x, struct.unpack('32b', block[2:])))
            plain += sum((v - simple * round(v / simple)) ** 2 for v in x)
        self.assertLess(ours, plain * 1.01)
        self.assertGreater(ours, 0)

    def test_floats_of_16_bits_are_rounded_to_nearest(self):
        path = self.model()
        out, _ = self.quantize(path, 'F16')
        values = array.array('f', self.tensor(path, 'blk.0.attn_k.weight'))
        self.assertEqual(self.tensor(out, 'blk.0.attn_k.weight'), struct.pack(f'<{len(values)}e', *values))

    def test_16_bit_sources_give_what_their_float32_values_give(self):
        half = self.model(kind='f16')
        code, _, err = spark('quantize', half, self.dir / 'same.gguf', '--type', 'F16')
        self.assertEqual(code, 0, err)
        self.assertEqual(self.tensor(half, 'output.weight'), self.tensor(self.dir / 'same.gguf', 'output.weight'))
        self.quantize(self.model(kind='bf16'), 'Q4_K')

    def test_threads_do_not_show(self):
        path = self.model()
        one, _ = self.quantize(path, 'Q4_K', '--threads', 1)
        first = one.read_bytes()
        many, _ = self.quantize(path, 'Q4_K', '--threads', 5, '--force')
        self.assertEqual(first, many.read_bytes())

    def test_memory_does_not_grow_with_the_tensors(self):
        path = self.model('tiny-llama') # its embedding alone has 37 MB
        p, peak = subprocess.Popen([SPARK, 'quantize', path, self.dir / 'out.gguf', '--type', 'Q4_K', '--threads', '2'], stderr=subprocess.DEVNULL), 0
        while p.poll() is None:
            for pid in [p.pid, *pathlib.Path(f'/proc/{p.pid}/task/{p.pid}/children').read_text().split()]: # the work is done in a cell
                try:
                    found = re.search(r'VmHWM:\s+(\d+)', pathlib.Path(f'/proc/{pid}/status').read_text())
                except OSError:
                    continue # it has just ended
                peak = max(peak, int(found[1]) if found else 0)
            time.sleep(0.002)
        self.assertEqual(p.returncode, 0)
        self.assertTrue(4 << 10 < peak < (36 if 'asan' not in SPARK else 400) << 10, peak)

    @needs_data
    def test_a_trained_model_keeps_its_perplexity(self):
        path = DATA / 'llm/stories260K/stories260K.f32.gguf'
        text = self.dir / 'text'
        text.write_bytes((DATA / 'corpora/tinystories-sample.txt').read_bytes()[:1500])
        nll = lambda p: spark_json('score', p, text, '--json')['mean_nll']
        before = nll(path)
        for kind, bound in ('Q8_0', 0.003), ('F16', 0.001), ('Q6_K', 0.003), ('Q4_K', 0.03), ('Q4_0', 0.15):
            out, _ = self.quantize(path, kind)
            self.assertLess(abs(nll(out) - before), bound, kind)

    # ---- Whole or not at all ----

    def leftovers(self, *known):
        return sorted(p.name for p in self.dir.iterdir() if p.name not in known)

    def test_an_existing_file_is_left_alone_without_force(self):
        path, out = self.model(), self.dir / 'out.gguf'
        out.write_bytes(b'mine')
        code, stdout, err = spark('quantize', path, out, '--type', 'Q8_0')
        self.assertEqual((code, stdout, out.read_bytes()), (1, b'', b'mine'))
        self.assertTrue(is_one_error_line(err) and '--force' in err, err)
        code, _, err = spark('quantize', path, out, '--type', 'Q8_0', '--force')
        self.assertEqual(code, 0, err)
        self.assertEqual(out.read_bytes()[:4], b'GGUF')
        self.assertEqual(self.leftovers(path.name), ['out.gguf'])

    def test_in_may_be_replaced_by_its_own_quantization(self):
        path = self.model()
        code, _, err = spark('quantize', path, path, '--type', 'Q8_0', '--force')
        self.assertEqual(code, 0, err)
        self.assertEqual(self.types(path)['output.weight'], 'Q8_0')

    def test_what_cannot_be_done_leaves_nothing_and_says_why(self):
        quantized, good = self.model(kind='q8_0'), self.model()
        cases = [([quantized, self.dir / 'o', '--type', 'Q4_0'], 1, 'already'), ([self.dir / 'no', self.dir / 'o', '--type', 'Q4_0'], 1, 'no'),
                 ([good, self.dir / 'no/o', '--type', 'Q4_0'], 1, 'cannot write'), ([good, self.dir, '--type', 'Q4_0', '--force'], 1, 'no ordinary file'),
                 ([good, self.dir / 'o'], 2, '--type'), ([good, self.dir / 'o', '--type', 'Q3_K'], 2, 'one of'), ([good, '--type', 'Q8_0'], 2, 'OUT')]
        for args, expected, word in cases:
            code, stdout, err = spark('quantize', *args)
            self.assertEqual((code, stdout), (expected, b''), (args, err))
            self.assertTrue(is_one_error_line(err) and word in err, err)
        self.assertEqual(self.leftovers(quantized.name, good.name), [])

    def test_a_weight_that_the_format_cannot_hold_names_its_tensor_and_leaves_nothing(self):
        path = self.model()
        t = next(t for t in spark_json('inspect', path, '--json')['tensors'] if t['name'] == 'blk.1.ffn_up.weight')
        with open(path, 'r+b') as f:
            f.seek(t['offset'] + 4 * 1000)
            f.write(struct.pack('<f', math.nan))
        code, _, err = spark('quantize', path, self.dir / 'o', '--type', 'Q4_K')
        self.assertEqual(code, 1)
        self.assertIn("'blk.1.ffn_up.weight'", err.splitlines()[-1])
        self.assertEqual(self.leftovers(path.name), [])

    def interrupted(self, how):
        """Interrupts it between its first byte and its last. A signal that came too late says nothing: then once more."""
        path, out = self.model('tiny-llama'), self.dir / 'out.gguf'
        for _ in range(10):
            out.unlink(missing_ok=True)
            p = subprocess.Popen([SPARK, 'quantize', path, out, '--type', 'Q4_K', '--threads', '1'], stderr=subprocess.PIPE,
                                 preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) # a shell's background job ignores it
            while not self.leftovers(path.name) and p.poll() is None:
                time.sleep(0.001)
            p.send_signal(how)
            err = p.communicate(timeout=60)[1].decode()
            if p.returncode != 0:
                break
        self.assertNotEqual(p.returncode, 0, err)
        self.assertFalse(out.exists())
        return path, err

    def test_ctrl_c_in_the_middle_leaves_nothing(self):
        path, err = self.interrupted(signal.SIGINT)
        self.assertIn('cancelled', err)
        self.assertEqual(self.leftovers(path.name), [])

    def test_a_kill_in_the_middle_leaves_no_out(self):
        self.interrupted(signal.SIGKILL)


if __name__ == '__main__':
    unittest.main()
