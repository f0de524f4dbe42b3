"""spark key: keys that are shown once, kept as hashes, and never lost between two writers."""
import concurrent.futures, os, re, stat, subprocess

from support import SPARK, Folder, is_one_error_line, spark, spark_json

KEY = re.compile(rb'^sk-spark-[a-z2-7]{10}-[a-z2-7]{59}\n$')


class Keys(Folder):
    def setUp(self):
        super().setUp()
        self.file = self.dir / 'keys'

    def new(self, *args):
        code, out, err = spark('key', 'new', '--keys', self.file, *args)
        self.assertEqual(code, 0, err)
        self.assertRegex(out, KEY)
        return out.decode().strip()

    def listed(self):
        return spark_json('key', 'list', '--keys', self.file, '--json')['keys']

    def refused(self, *args, code=2, words='', env=None):
        got, out, err = spark('key', *args, env=env)
        self.assertEqual((got, out), (code, b''), (args, err))
        self.assertTrue(is_one_error_line(err), err)
        self.assertIn(words, err)

    def test_a_new_key_is_printed_alone_and_only_its_hash_is_kept(self):
        key = self.new()
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        text = self.file.read_text()
        self.assertNotIn(key[20:], text)
        self.assertIn(f'[key {key[9:19]}]', text)
        self.assertNotEqual(key, self.new())

    def test_what_a_key_may_do_is_listed(self):
        self.new('--name', 'ward, "7"', '--model', 'a', '--model', 'b', '--route', 'generate', '--requests-per-minute', '60', '--tokens-per-minute', '9000',
                 '--max-context', '4096', '--max-parallel', '2', '--priority', '-7', '--tenant', 'wards', '--metrics', '--admin',
                 '--expires', '2099-12-31')
        key = self.listed()[0]
        self.assertEqual({k: key[k] for k in key if k not in ('id', 'created')},
                         {'name': 'ward, "7"', 'state': 'valid', 'expires': '2099-12-31T00:00:00Z', 'revoked': None, 'models': ['a', 'b'],
                          'routes': ['generate', 'metrics', 'admin'], 'requests_per_minute': 60, 'tokens_per_minute': 9000, 'max_context': 4096,
                          'max_parallel': 2, 'priority': -7, 'tenant': 'wards'})
        code, out, _ = spark('key', 'list', '--keys', self.file)
        self.assertEqual((code, out.count(b'\n')), (0, 1))

    def test_plain_keys_have_no_rights_beyond_the_usual(self):
        self.new()
        self.assertEqual(self.listed()[0]['routes'], ['generate', 'tokenize', 'models', 'embed'])

    def test_json_names_file_and_id(self):
        made = spark_json('key', 'new', '--keys', self.file, '--json', '--expires', '90d')
        self.assertRegex(made['key'].encode() + b'\n', KEY)
        self.assertEqual((made['id'], made['file']), (made['key'][9:19], str(self.file)))
        self.assertRegex(made['expires'], r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$')

    def test_revoking_goes_by_id_and_by_name(self):
        first, second = self.new('--name', 'one'), self.new('--name', 'two')
        self.assertEqual(spark('key', 'revoke', '--keys', self.file, 'one')[0], 0)
        self.assertEqual(spark_json('key', 'revoke', '--keys', self.file, second[9:19], '--json'), {'id': second[9:19], 'revoked': True})
        self.assertEqual({k['state'] for k in self.listed()}, {'revoked'})
        self.refused('revoke', '--keys', self.file, 'one', words='no key')
        self.refused('revoke', '--keys', self.file, first[9:19], code=1, words='revoked already')

    def test_pruning_takes_out_what_is_over_and_prints_it(self):
        gone, kept = self.new('--name', 'gone'), self.new('--name', 'kept')
        self.assertEqual(spark('key', 'revoke', '--keys', self.file, 'gone')[0], 0)
        before = self.listed()
        would = spark_json('key', 'prune', '--keys', self.file, '--dry-run', '--json')
        self.assertEqual((would['dry_run'], [(k['id'], k['state']) for k in would['keys']]), (True, [(gone[9:19], 'revoked')]))
        self.assertEqual(self.listed(), before)
        code, out, err = spark('key', 'prune', '--keys', self.file)
        self.assertEqual((code, out.count(b'\n'), out[:10].decode()), (0, 1, gone[9:19]))
        self.assertIn('1 key went out of', err)
        self.assertEqual([k['id'] for k in self.listed()], [kept[9:19]])
        inode = self.file.stat().st_ino
        self.assertEqual(spark_json('key', 'prune', '--keys', self.file, '--json'), {'keys': [], 'dry_run': False})
        self.assertEqual(self.file.stat().st_ino, inode, 'nothing was over, but the file was written')

    def test_a_name_that_is_taken_is_told(self):
        first = self.new('--name', 'one')
        err = spark('key', 'new', '--keys', self.file, '--name', 'one')[2]
        self.assertIn(f'{first[9:19]} has this name too', err)
        for i in self.listed():
            self.assertEqual(spark('key', 'revoke', '--keys', self.file, i['id'])[0], 0)
        self.assertNotIn('too', spark('key', 'new', '--keys', self.file, '--name', 'one')[2])

    def test_usage_mistakes_exit_2(self):
        self.refused()
        self.refused('make', '--keys', self.file)
        self.refused('new', words='--keys')
        self.refused('new', 'x', '--keys', self.file)
        self.refused('revoke', '--keys', self.file)
        self.refused('list', '--keys', self.file, '--admin', words="only 'new'")
        self.refused('list', '--keys', self.file, '--dry-run', words="only 'prune'")
        self.refused('prune', 'x', '--keys', self.file)
        for option, value in ('--route', 'everything'), ('--expires', 'soon'), ('--expires', '2001-01-01'), ('--priority', '1001'), ('--priority', '1.5'), \
                ('--requests-per-minute', '50000001'), ('--name', ''), ('--name', 'a\nb'), ('--model', '*'), ('--tenant', 'x' * 129):
            self.refused('new', '--keys', self.file, option, value)
        self.assertFalse(self.file.exists())

    def test_files_of_strangers_are_refused_with_3(self):
        self.new()
        for mode in 0o644, 0o640, 0o620, 0o602:
            self.file.chmod(mode)
            self.refused('list', '--keys', self.file, code=3, words='chmod 600')
            self.refused('new', '--keys', self.file, code=3, words='chmod 600')
        self.file.chmod(0o400)
        self.assertEqual(len(self.listed()), 1)

    def test_broken_files_are_named_by_line(self):
        self.new()
        with open(self.file, 'a') as f:
            f.write('colour = red\n')
        self.refused('list', '--keys', self.file, code=1, words='(line 11, column 1)')
        self.refused('new', '--keys', self.file, code=1, words='colour')
        self.refused('prune', '--keys', self.file, code=1, words='colour')
        self.refused('list', '--keys', self.dir / 'none', code=1, words='No such file')
        self.refused('prune', '--keys', self.dir / 'none', code=1, words='No such file')

    def test_the_variable_names_the_file_too(self):
        self.new()
        self.assertEqual(spark('key', 'list', env={'SPARK_KEYS': str(self.file)})[0], 0)

    def test_writers_at_once_lose_nothing(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            keys = list(pool.map(lambda i: self.new('--name', f'k{i}'), range(24)))
        self.assertEqual({k['id'] for k in self.listed()}, {k[9:19] for k in keys})

    def test_a_key_that_could_not_be_shown_is_told_of(self):
        with open('/dev/full', 'wb') as full:
            p = subprocess.run([SPARK, 'key', 'new', '--keys', self.file], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(p.returncode, 1)
        self.assertIn(b'revoke it', p.stderr)

    def test_nothing_is_left_beside_the_file_but_its_lock(self):
        self.new()
        self.assertEqual(sorted(os.listdir(self.dir)), ['keys', 'keys.lock'])
