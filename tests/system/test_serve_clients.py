"""Real clients against `spark serve`: the official openai and ollama packages, curl, and the shared table of requests."""
import json, pathlib, shutil, subprocess, sys, tempfile, unittest

from serving import Server, chat_model, new_key
from support import DATA, SPARK, needs_data

HERE = pathlib.Path(__file__).resolve().parent / 'clients'
BUILD = pathlib.Path(SPARK).resolve().parent
sys.path.insert(0, str(HERE))
import api_rows


def installed():
    """The folder below build/ with the scripts and what they import; raises SkipTest where npm cannot get it."""
    if not shutil.which('node') or not shutil.which('npm'):
        raise unittest.SkipTest('no node and npm: tools/install-deps check brings them')
    folder, lock = BUILD / 'clients', (HERE / 'package-lock.json').read_text()
    folder.mkdir(parents=True, exist_ok=True)
    for file in HERE.iterdir():
        if file.suffix in ('.json', '.mjs'):
            shutil.copy(file, folder)
    stamp = folder / 'installed'
    if not stamp.exists() or stamp.read_text() != lock:
        p = subprocess.run(['npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund'], cwd=folder, capture_output=True, text=True, timeout=300)
        if p.returncode:
            raise unittest.SkipTest('npm ci: ' + (p.stderr.strip().splitlines() or ['failed'])[-1])
        stamp.write_text(lock)
    return folder


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tmp = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.tmp.cleanup)
        keys, cls.socket = (pathlib.Path(cls.tmp.name) / name for name in ('keys', 'socket'))
        cls.server = Server('--model', f'chat={chat_model(cls.tmp.name)}', '--model', 'demo=', '--keys', keys, '--listen', f'unix:{cls.socket}', key=new_key(keys))

    @classmethod
    def tearDownClass(cls):
        code = cls.server.close()
        assert code == 0, f'spark serve: exit {code} after SIGTERM'

    def node(self, script, model, env=None):
        """Every line of the script is a claim; none may fail."""
        p = subprocess.run(['node', script, self.server.base, self.server.key, model], cwd=installed(), capture_output=True, text=True, timeout=900,
                           env={'PATH': '/usr/local/bin:/usr/bin:/bin', **(env or {})})
        self.assertRegex(p.stdout, r'(?m)^[1-9]\d* passed, 0 failed$', p.stdout + p.stderr)
        self.assertEqual(p.returncode, 0)

    def test_openai_package(self):
        self.node('openai.mjs', 'chat')

    def test_openai_package_completes_with_the_demo_model(self):
        self.node('openai.mjs', 'demo', {'ONLY': 'models.list,completion,completion stream,completion of several prompts,completion of token ids,completion echo,'
                                                 'completion logprobs,completion default length is 16'})

    def test_ollama_package(self):
        self.node('ollama.mjs', 'chat')

    # ---- curl, as the documentation shows it ----

    def curl(self, *options):
        """(status, body)"""
        p = subprocess.run(['curl', '-sS', '--max-time', '60', '-w', '\n%{http_code}', *options], capture_output=True, text=True, timeout=90)
        self.assertEqual(p.returncode, 0, p.stderr)
        body, _, status = p.stdout.rpartition('\n')
        return int(status), body

    def chat_request(self, **more):
        return json.dumps({'model': 'chat', 'max_tokens': 8, 'temperature': 0, 'messages': [{'role': 'user', 'content': 'Say hi.'}], **more})

    def test_curl_asks_for_a_chat_completion(self):
        status, body = self.curl(self.server.base + '/v1/chat/completions', '-H', f'Authorization: Bearer {self.server.key}',
                                 '-H', 'Content-Type: application/json', '-d', self.chat_request())
        self.assertEqual(status, 200, body)
        self.assertNotEqual(json.loads(body)['choices'][0]['message']['content'], '')

    def test_curl_reads_a_stream(self):
        status, body = self.curl('-N', self.server.base + '/v1/chat/completions', '-H', f'Authorization: Bearer {self.server.key}',
                                 '-H', 'Content-Type: application/json', '-d', self.chat_request(stream=True))
        self.assertEqual(status, 200, body)
        self.assertEqual(api_rows.events(body)[-1], '[DONE]')

    def test_curl_over_the_unix_socket(self):
        status, body = self.curl('--unix-socket', self.socket, 'http://localhost/v1/models', '-H', f'Authorization: Bearer {self.server.key}')
        self.assertEqual(status, 200, body)
        self.assertEqual({m['id'] for m in json.loads(body)['data']}, {'chat', 'demo'})

    def test_curl_without_a_key_is_refused_and_health_needs_none(self):
        self.assertEqual(self.curl(self.server.base + '/v1/models')[0], 401)
        for path in '/health', '/health/live', '/health/ready', '/health/startup':
            self.assertEqual(self.curl(self.server.base + path)[0], 200, path)

    def test_curl_asks_as_ollama_users_do(self):
        status, body = self.curl(self.server.base + '/api/generate', '-H', f'Authorization: Bearer {self.server.key}',
                                 '-d', json.dumps({'model': 'chat', 'prompt': 'Say hi.', 'options': {'num_predict': 4}}))
        self.assertEqual(status, 200, body)
        lines = [json.loads(line) for line in body.splitlines()]
        self.assertTrue(lines[-1]['done'] and not any(x['done'] for x in lines[:-1]), body)

    # ---- The shared table ----

    @needs_data
    def test_rows_of_the_shared_requests(self):
        passed, failed, due = api_rows.run(DATA / 'api/requests.jsonl', self.server.base, 'chat', self.server.key)
        print('\n'.join(f'due: {d}' for d in due), file=sys.stderr)
        self.assertEqual(failed, [])
        self.assertGreaterEqual(passed, 28)


if __name__ == '__main__':
    unittest.main()
