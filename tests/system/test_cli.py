"""The promises of the command line: exit codes, streams, JSON, options, help, completions, man pages."""
import json, pathlib, re, shutil, subprocess, time, unittest

from support import DATA, ROOT, SPARK, Folder, is_one_error_line, needs_data, spark, spark_json

COMMANDS = ['run', 'chat', 'inspect', 'tokenize', 'score', 'bench', 'quantize', 'serve', 'jail', 'key', 'plan', 'config', 'version', 'completion', 'man']
STORIES = DATA / 'llm/stories260K/stories260K.f32.gguf'


def read(path):
    """Text of a file of /proc; '' if the process is gone."""
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ''


class Everywhere(unittest.TestCase):
    def refused(self, *args, code=2, stdin=b'', words=''):
        got, out, err = spark(*args, stdin=stdin)
        self.assertEqual((got, out), (code, b''), (args, err))
        self.assertTrue(is_one_error_line(err), err)
        self.assertIn(words, err)
        return err

    def test_usage_mistakes_exit_2_with_one_line(self):
        self.refused('fly')
        self.refused('run', '--fly', 'a')
        self.refused('run', '--temp', 'hot', 'a')
        self.refused('run', '--temp', 'nan', 'a')
        self.refused('run', '--temp', '-1', 'a')
        self.refused('run', '--threads', '0', 'a')
        self.refused('run', '-n', '99999999999999999999', 'a')
        self.refused('run', '--kv', 'q3', 'a')
        self.refused('run', '--kv')
        self.refused('run', 'a', 'b', 'c')
        self.refused('run', '--stop', '', 'a')
        self.refused('run', '--logit-bias', '5', 'a')
        self.refused('run', '--json=yes', 'a')
        self.refused('tokenize')
        self.refused('score', 'x')
        self.refused('completion', 'tcsh')
        self.assertEqual(spark()[0], 2)

    def test_what_fails_exits_1_with_one_line(self):
        self.refused('run', '/nonexistent/model.gguf', 'a', code=1)
        self.refused('run', 'no-such-name', 'a', code=1)
        self.refused('inspect', '/', code=1)
        self.refused('inspect', '/dev/null', code=1)
        self.refused('inspect', str(ROOT / 'README.md'), code=1)
        self.refused('score', str(ROOT / 'README.md'), '/nonexistent', code=1)

    def test_a_full_disk_is_an_error(self):
        for command in ['version'], ['run', 'Hi', '-n', '5'], ['run', 'Hi', '-n', '5', '--json'], ['inspect']:
            with open('/dev/full', 'wb') as full:
                p = subprocess.run([SPARK, *command], stdout=full, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
            self.assertEqual(p.returncode, 1, command)
            self.assertIn(b'No space left on device', p.stderr)

    def test_a_reader_that_leaves_is_an_error(self):
        p = subprocess.Popen([SPARK, 'run', 'Hi', '-n', '300', '--logit-bias', '2=-inf'], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        p.stdout.read(1)
        p.stdout.close()
        self.assertEqual(p.wait(30), 1)
        p.stderr.close()

    def test_texts_that_are_not_utf8_and_levels_that_are_not_there_are_refused(self):
        self.refused('run', 'Hi', '--stop', b'\xff'.decode('utf-8', 'surrogateescape'), code=1)
        code, out, err = spark('run', 'Hi', env={'SPARK_CPU': 'z80'})
        self.assertEqual((code, out), (1, b''), err)

    def test_the_least_temperature_is_greedy(self):
        greedy = spark('run', 'Once', '-n', 8, '--temp', 0)[1]
        for t in '1e-38', '1e-44':
            self.assertEqual(spark('run', 'Once', '-n', 8, '--temp', t)[1], greedy)

    def test_help_names_every_command_and_shows_examples(self):
        code, out, err = spark('--help')
        self.assertEqual((code, err), (0, ''))
        for c in COMMANDS:
            self.assertIn(c, out.decode())
            code, text, err = spark(c, '--help')
            self.assertEqual((code, err), (0, ''))
            self.assertIn('Examples:\n  ', text.decode())
            self.assertLess(max(map(len, text.decode().splitlines())), 125)

    def test_an_unknown_option_names_the_one_that_was_meant(self):
        for option, meant in ('--contxt', '--ctx'), ('--max-conections', '--max-connections'), ('--prot', '--listen tcp:127.0.0.1:8081'), \
                ('--host', '--listen tcp:127.0.0.1:8081'), ('--port=8081', '--listen tcp:127.0.0.1:8081'):
            self.refused('serve', option, words=f'did you mean {meant}?')
        self.assertNotIn('mean', spark('run', '--listne', 'x')[2])
        self.refused('serve', '127.0.0.1:8081', words='--listen tcp:127.0.0.1:8081')
        self.refused('serve', '--listen', '127.0.0.1:8081', words='tcp:127.0.0.1:8081')

    def test_a_model_without_a_name_is_answered_with_the_line_to_use(self):
        self.refused('serve', 'a/qwen 7b.gguf', 'b.gguf', words="spark serve --model 'qwen-7b=a/qwen 7b.gguf' --model b=b.gguf")

    def test_version_tells_what_was_built(self):
        v = spark_json('version', '--json')
        self.assertRegex(v['version'], r'^\d+\.\d+\.\d+')
        self.assertGreaterEqual(v['numerics_profile'], 1)
        self.assertEqual(spark('--version')[0], 0)


class Shells(Folder):
    def script(self, shell):
        path = self.dir / f'spark.{shell}'
        path.write_bytes(spark('completion', shell)[1])
        return path

    def test_completions_are_valid_scripts(self):
        for shell in 'bash', 'zsh', 'fish':
            tool = shutil.which(shell)
            self.assertIsNotNone(tool, f'{shell} is not installed')
            p = subprocess.run([tool, '-n', self.script(shell)], capture_output=True, text=True)
            self.assertEqual((p.returncode, p.stderr), (0, ''), shell)

    def test_bash_completes_commands_options_and_choices(self):
        script = self.script('bash')

        def complete(*words):
            line = ' '.join(f"'{w}'" for w in words)
            p = subprocess.run(['bash', '-c', f'source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _spark; echo "${{COMPREPLY[@]}}"'], capture_output=True, text=True)
            return p.stdout.split()
        self.assertEqual(complete('spark', 'tok'), ['tokenize'])
        self.assertEqual(complete('spark', 'run', '--tem'), ['--temp'])
        self.assertEqual(complete('spark', 'run', '--kv', 'q'), ['q8_0'])

    def test_man_pages_are_clean(self):
        for c in [None] + COMMANDS:
            code, page, err = spark('man', *([c] if c else []))
            self.assertEqual((code, err), (0, ''))
            p = subprocess.run(['mandoc', '-Tlint', '-W', 'warning'], input=page, capture_output=True)
            self.assertEqual(p.stdout.decode(), '', c)


class EmbeddedModel(unittest.TestCase):
    """No MODEL means the model inside the program."""

    def test_it_writes_english_words(self):
        code, out, err = spark('run', 'Once upon a time', '-n', 60, '--temp', 0)
        self.assertEqual(code, 0, err)
        words = re.findall(r"[a-z]+", out.decode().lower())
        common = {'the', 'a', 'was', 'to', 'and', 'she', 'he', 'there', 'in', 'they', 'it', 'her', 'his', 'with', 'little', 'day', 'one', 'named'}
        self.assertGreater(len(words), 20)
        self.assertGreater(sum(w in common for w in words) / len(words), 0.25, out)

    def test_stdout_in_a_pipe_holds_the_generated_bytes_and_nothing_else(self):
        code, out, err = spark('run', 'One day', '--seed', 5, '-n', 20)
        got = spark_json('run', 'One day', '--seed', 5, '-n', 20, '--json')
        self.assertEqual((code, err, out.decode()), (0, '', got['text']))

    def test_json_has_the_promised_fields(self):
        got = spark_json('run', 'One day', '-n', 8, '--json', '--logprobs', 3)
        self.assertEqual(set(got), {'text', 'ids', 'prompt_ids', 'finish_reason', 'prompt_tokens', 'completion_tokens', 'seed', 'timings', 'logprobs'})
        self.assertEqual(set(got['timings']), {'load_s', 'prompt_s', 'decode_s'})
        self.assertEqual((got['completion_tokens'], len(got['ids']), len(got['logprobs'])), (8, 8, 8))
        self.assertEqual(got['prompt_tokens'], len(got['prompt_ids']))
        for id, lp in zip(got['ids'], got['logprobs']):
            self.assertEqual(lp['id'], id)
            self.assertEqual(len(lp['top']), 3)
            self.assertTrue(0 >= lp['top'][0]['logprob'] >= lp['top'][1]['logprob'] >= lp['top'][2]['logprob'])

    def test_a_seed_repeats_and_is_told(self):
        a = spark_json('run', 'One day', '-n', 30, '--json')
        b = spark_json('run', 'One day', '-n', 30, '--json', '--seed', a['seed'])
        c = spark_json('run', 'One day', '-n', 30, '--json', '--seed', a['seed'] + 1)
        self.assertEqual(a['ids'], b['ids'])
        self.assertNotEqual(a['ids'], c['ids'])

    def test_same_bytes_for_any_threads_and_cpu_level(self):
        want = spark('run', 'The dog', '-n', 40, '--seed', 3)[1]
        for threads in 1, 2, 3:
            for cpu in 'scalar', 'avx2', 'avx512', 'amx':
                code, out, err = spark('run', 'The dog', '-n', 40, '--seed', 3, '--threads', threads, '--cpu', cpu)
                if code and 'has no' in err:
                    continue
                self.assertEqual(out, want, (threads, cpu, err))

    def test_a_stop_string_ends_before_itself(self):
        whole = spark_json('run', 'Once upon a time', '--temp', 0, '-n', 60, '--json')['text']
        stop = whole[len(whole) // 2:][:7]
        got = spark_json('run', 'Once upon a time', '--temp', 0, '-n', 60, '--json', '--stop', stop)
        self.assertEqual((got['text'], got['finish_reason']), (whole[:whole.index(stop)], 'stop'))

    def test_a_forbidden_token_never_comes(self):
        first = spark_json('run', 'Once upon a time', '--temp', 0, '-n', 1, '--json')['ids'][0]
        got = spark_json('run', 'Once upon a time', '--temp', 0, '-n', 20, '--json', '--logit-bias', f'{first}=-inf')
        self.assertNotIn(first, got['ids'])

    def test_length_ends_with_length(self):
        self.assertEqual(spark_json('run', 'Once', '-n', 3, '--json')['finish_reason'], 'length')

    def test_a_full_context_ends_with_length(self):
        got = spark_json('run', 'Once upon a time', '--ctx', 12, '--temp', 0, '--json', '--logit-bias', '2=-inf')
        self.assertEqual((got['finish_reason'], got['prompt_tokens'] + got['completion_tokens']), ('length', 12))

    def test_a_prompt_longer_than_the_context_is_an_error(self):
        code, out, err = spark('run', 'word ' * 200, '--ctx', 32)
        self.assertEqual((code, out), (1, b''))
        self.assertIn('32', err)

    def test_the_prompt_may_come_from_stdin_or_behind_two_dashes(self):
        want = spark('run', 'One day', '--temp', 0, '-n', 5)[1]
        self.assertEqual(spark('run', '--temp', 0, '-n', 5, stdin=b'One day')[1], want)
        self.assertEqual(spark('run', '--temp', 0, '-n', 5, '-', stdin=b'One day')[1], want)
        self.assertEqual(spark('run', '--temp=0', '-n', 5, '--', 'One day')[1], want)
        self.assertEqual(spark('run', '--temp=0', '-n', 5, '--', '--help')[0], 0)

    def test_a_prompt_of_any_bytes_is_answered(self):
        for prompt in b'\xff\xfe\x80', b'a\0b', 'नमस्ते 👩‍👩‍👧 é'.encode(), b'\n\n\n', b'':
            code, _, err = spark('run', '-n', 2, '-', stdin=prompt)
            self.assertEqual(code, 0, (prompt, err))


class PlanAndMemory(unittest.TestCase):
    def peak(self, *args):
        """Highest resident size of the command and its cell together. (Not wait4's: that counts this Python from before the exec.)"""
        p = subprocess.Popen([SPARK, *map(str, args)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        most = {}
        while p.poll() is None:
            for pid in [p.pid, *map(int, read(f'/proc/{p.pid}/task/{p.pid}/children').split())]:
                m = re.search(r'VmHWM:\s*(\d+) kB', read(f'/proc/{pid}/status'))
                if m and read(f'/proc/{pid}/comm').startswith('spark'):
                    most[pid] = int(m[1]) * 1024
            time.sleep(0.002)
        p.stderr.close()
        self.assertEqual(p.returncode, 0, args)
        return sum(most.values())

    def test_peak_memory_is_the_printed_plan_and_16_mib_at_most(self):
        for options in [], ['--kv', 'f32'], ['--threads', 2]:
            plan = spark_json('inspect', '--json', *options)['plan']
            self.assertEqual(plan['total'], plan['weights'] + plan['kv'] + plan['scratch'] + plan['vocabulary'])
            self.assertLessEqual(self.peak('run', 'Once', '-n', 200, '--seed', 1, *options), plan['total'] + (16 << 20), options)


@needs_data
class WithModels(Folder):
    def test_inspect_prints_keys_tensors_and_plan(self):
        got = spark_json('inspect', STORIES, '--json')
        self.assertEqual(got['model']['arch'], 'llama')
        self.assertEqual(got['metadata']['llama.block_count'], 5)
        self.assertEqual(len([t for t in got['tensors'] if t['name'].startswith('blk.0.')]), 9)
        self.assertGreater(got['plan']['weights'], 0)
        text = spark('inspect', STORIES, '--tensors')[1].decode()
        for word in 'Metadata', 'Tensors', 'Memory plan', 'blk.4.ffn_down.weight', 'Numerics profile':
            self.assertIn(word, text)

    def test_inspect_prints_what_it_can_of_a_file_that_run_refuses(self):
        code, out, err = spark('inspect', DATA / 'golden/gpt2/model.gguf', '--json')
        self.assertEqual(code, 1)
        self.assertIn("'gpt2'", err)
        self.assertEqual(json.loads(out)['metadata']['general.architecture'], 'gpt2')

    def test_tokenize_works_from_the_vocabulary_alone(self):
        code, out, err = spark('tokenize', DATA / 'tokenizers/gguf/falcon.gguf', 'Hello world')
        self.assertEqual((code, err), (0, ''))
        self.assertRegex(out, rb'^\d+( \d+)*\n$')

    def test_tokenize_and_decode_are_inverse(self):
        vocab = DATA / 'tokenizers/gguf/llama-spm.gguf'
        for text in 'Hello world', '  two  spaces\n', 'naïve 日本 👍', '':
            ids = spark('tokenize', vocab, '--', text)[1]
            self.assertEqual(ids.split()[0], b'1')
            self.assertEqual(spark('tokenize', vocab, '--decode', ids.decode())[1].decode(), text)
            self.assertEqual(spark('tokenize', vocab, '--no-bos', '--', text)[1].split(), ids.split()[1:])

    def test_tokenize_jsonl_gives_one_line_for_each(self):
        vocab, lines = DATA / 'tokenizers/gguf/gpt-2.gguf', ['a', 'b c', 'line\nbreak', '', '"quoted"', 'nul \0 byte']
        path = self.dir / 'in.jsonl'
        path.write_text(''.join(json.dumps(x) + '\n' for x in lines))
        out = spark('tokenize', vocab, '--jsonl', path)[1].decode().split('\n')
        self.assertEqual(len(out), len(lines) + 1)
        back = self.dir / 'ids.jsonl'
        back.write_text(''.join(f"[{','.join(x.split())}]\n" for x in out[:-1]))
        self.assertEqual([json.loads(x) for x in spark('tokenize', vocab, '--decode', '--jsonl', back)[1].splitlines()], lines)

    def test_a_users_text_never_becomes_a_special_token(self):
        vocab = DATA / 'tokenizers/gguf/qwen2.gguf'
        plain = spark('tokenize', vocab, '<|im_start|>')[1].split()
        special = spark('tokenize', vocab, '--special', '<|im_start|>')[1].split()
        self.assertGreater(len(plain), 1)
        self.assertEqual(len(special), 1)
        self.assertNotIn(special[0], plain)

    def test_score_of_nothing_fails_and_a_device_is_not_removed(self):
        self.assertEqual(spark('score', STORIES, '-')[0], 1)
        device = self.dir / 'full'
        device.symlink_to('/dev/full')
        self.assertEqual(spark('score', STORIES, '--tokens', '1,2', '--logits', device)[0], 1)
        self.assertTrue(device.is_symlink())

    def test_score_writes_one_row_of_logits_a_token(self):
        out = self.dir / 'x.npy'
        self.assertEqual(spark('score', STORIES, '--tokens', '1,2,3,4', '--logits', out)[0], 0)
        raw = out.read_bytes()
        self.assertIn(b"'shape': (4, 512)", raw[:128])
        self.assertEqual(len(raw) - 4 * 4 * 512, int.from_bytes(raw[8:10], 'little') + 10)

    def test_score_windows_begin_with_bos_and_do_not_score_it(self):
        text = 'Once upon a time there was a little girl named Lily. ' * 20
        got = spark_json('score', STORIES, '-', '--ctx', 64, '--json', stdin=text.encode())
        n_windows = -(-(got['tokens'] - 1) // 63)
        self.assertEqual(got['scored'], got['tokens'] - 1 if n_windows == 1 else got['tokens'] - 1)
        self.assertAlmostEqual(got['perplexity'], 2.718281828459045 ** got['mean_nll'], places=6)

    def test_same_logits_for_any_threads_cpu_and_kv_type_by_itself(self):
        ids = ','.join(str(i % 500 + 3) for i in range(300))
        for kv in 'f32', 'f16', 'q8_0':
            seen = set()
            for threads, cpu in (1, 'scalar'), (2, 'avx2'), (3, 'avx512'), (2, 'amx'), (2, None):
                out = self.dir / 'x.npy'
                code, _, err = spark('score', DATA / 'llm/stories260K/stories260K.q8_0.gguf', '--tokens', ids, '--logits', out, '--kv', kv, '--threads', threads, *(['--cpu', cpu] if cpu else []))
                if code and 'has no' in err:
                    continue
                self.assertEqual(code, 0, err)
                seen.add(out.read_bytes())
            self.assertEqual(len(seen), 1, kv)

    def test_the_chat_template_is_applied_and_raw_turns_it_off(self):
        case = DATA / 'golden/qwen3/model.gguf'
        if not spark_json('inspect', case, '--json')['model']['chat_template']:
            self.assertEqual(spark('run', case, '--system', 'x', 'y')[0], 2)


if __name__ == '__main__':
    unittest.main()
