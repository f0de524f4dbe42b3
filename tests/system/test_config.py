"""spark config: every setting, its value, where it came from; docs/CONFIG.md says what the program says."""
import json, unittest

from support import ROOT, Folder, is_one_error_line, spark, spark_json


class Config(Folder):
    def file(self, text):
        path = self.dir / 'serve.conf'
        path.write_text(text)
        return path

    def refused(self, *args, code=2, words='', env=None):
        got, out, err = spark('config', 'show', *args, env=env)
        self.assertEqual((got, out), (code, b''), (args, err))
        self.assertTrue(is_one_error_line(err), err)
        self.assertIn(words, err)

    def shown(self, *args, env=None):
        return spark_json('config', 'show', '--json', *args, env=env)

    def test_each_source_is_named_and_the_higher_wins(self):
        path = self.file('# comment\nctx = 1\nqueue = 2\nparallel = 3\n')
        got = {s['name']: s for s in self.shown('--config', path, '--parallel', '5', env={'SPARK_QUEUE': '4', 'SPARK_PARALLEL': '4'})['settings']}
        self.assertEqual(got['ctx'], {'name': 'ctx', 'value': 1, 'source': 'file', 'line': 2})
        self.assertEqual(got['queue'], {'name': 'queue', 'value': 4, 'source': 'environment'})
        self.assertEqual(got['parallel'], {'name': 'parallel', 'value': 5, 'source': 'flag'})
        self.assertEqual(got['threads'], {'name': 'threads', 'value': 0, 'source': 'default'})

    def test_models_show_what_they_take_from_all(self):
        path = self.file('kv = q8_0\n[model a]\nfile = "/m, n.gguf"\nctx = 7\n')
        a, b = self.shown('--config', path, '--model', 'b=', '--model-set', 'b.ctx=9')['models']
        self.assertEqual((a['name'], a['file'], a['source'], a['line'], b['name'], b['file']), ('a', '/m, n.gguf', 'file', 3, 'b', None))
        self.assertEqual([(s['value'], s['source']) for s in a['settings'][:2]], [(7, 'file'), ('q8_0', 'general')])
        self.assertEqual(b['settings'][0], {'name': 'ctx', 'value': 9, 'source': 'flag'})

    def test_what_show_prints_is_a_file_that_says_the_same(self):
        args = ['--memory', '6G', '--cors', 'https://a.example', '--cors', 'https://b.example', '--keys', '/a, #b', '--no-prefix-cache', '--model', 'x=/a "b"', '--tls', 'off',
                '--listen', 'tcp:0.0.0.0:80', '--itl-target', '50']
        first = self.shown(*args)
        code, out, err = spark('config', 'show', *args)
        self.assertEqual(code, 0, err)
        second = self.shown('--config', self.file(out.decode()))
        values = lambda shown: [(s['name'], s['value']) for s in shown['settings']] + [(m['name'], m['file'], [s['value'] for s in m['settings']]) for m in shown['models']]
        self.assertEqual(values(first), values(second))

    def test_mistakes_are_named_where_they_are(self):
        self.refused('--config', self.file('ctx = 1\nctxx = 2\n'), words="ctxx: no such setting; did you mean 'ctx'? (line 2, column 1)")
        self.refused('--config', self.file('ctx = 1\nctx = 2\n'), words='(line 2, column 7)')
        self.refused('--config', self.dir / 'none', words='cannot open')
        self.refused('--itl-target', 'soon', words='--itl-target')
        self.refused('--model', '/m.gguf', words='NAME=FILE')
        self.refused(words='SPARK_ITL_TARGET', env={'SPARK_ITL_TARGTE': '5'})
        self.refused(words='unset it', env={'SPARK_SERVICE_HOST': '10.0.0.1'})
        self.refused('--kv', 'q3', words='f16|f32|q8_0')
        for text, words in ('memroy = 4G', "did you mean 'memory'"), ('memory = 4GB', 'no size'), ('memory: 4G', "'=' is expected"), ('[modle demo]', '[model NAME]'), \
                ('file = /m', '[model NAME]'), ('[model chat]\nfile = /m\n[model chta]\nctx = 5', "did you mean 'chat'? "):
            self.refused('--config', self.file(text + '\n'), words=words)
        self.refused('--no-auth', '--keys', 'k', words='exclude')
        self.refused('--tls-cert', 'c', words='tls_key is missing')
        self.refused('--model-set', 'x.ctx=5', words="no model 'x' is served")
        self.assertEqual(self.shown('--model-set', 'demo.ctx=5')['models'][0]['name'], 'demo')
        self.assertEqual(spark('config')[0], 2)
        self.assertEqual(spark('config', 'hide')[0], 2)

    def test_the_file_may_come_by_its_variable(self):
        self.assertEqual(self.shown(env={'SPARK_CONFIG': str(self.file('ctx = 9\n'))})['settings'][0]['value'], 9)

    def test_wrong_settings_end_serve_and_plan_with_2_too(self):
        for command in 'serve', 'plan':
            for args in ['--config', self.file('memroy = 4G\n')], ['--config', self.dir / 'none'], ['--no-auth', '--keys', 'k'], ['--tls-cert', 'c']:
                got, out, err = spark(command, *args)
                self.assertEqual((got, out), (2, b''), err)
                self.assertTrue(is_one_error_line(err), err)

    def test_policy_exits_3(self):
        self.refused('--listen', 'tcp:0.0.0.0:80', code=3, words='demands keys')
        self.refused('--listen', 'tcp:0.0.0.0:80', '--keys', 'k', code=3, words='demands TLS')
        self.refused('--listen', 'tcp:192.0.2.1:80', '--no-auth', code=3, words='loopback only')


class Page(unittest.TestCase):
    def test_docs_have_the_table_of_the_program(self):
        code, out, err = spark('config', 'reference')
        self.assertEqual(code, 0, err)
        page = (ROOT / 'docs/CONFIG.md').read_text()
        self.assertIn('\n' + out.decode() + '\n', page, "docs/CONFIG.md differs: put in what 'spark config reference' prints")

    def test_the_example_of_the_docs_is_taken(self):
        page = (ROOT / 'docs/CONFIG.md').read_text()
        example = page.split('```ini\n')[1].split('```')[0]
        code, out, err = spark('config', 'show', '--json', '--config', '-', stdin=example.encode())
        self.assertEqual(code, 0, err)
        self.assertEqual([m['name'] for m in json.loads(out)['models']], ['demo', 'qwen2.5:7b'])
