"""What a key, a client's address and a tenant may have of a running `spark serve`, and what nobody gets without."""
import contextlib, json, re, socket, unittest

from serving import Server, chat_model, new_key
from support import ROOT, Folder

# By hand, beside the program's table: who may call what. What stands nowhere here takes the right `models`.
ANYONE = {'/', '/health', '/v1/health', '/health/live', '/health/ready', '/health/startup'}
METRICS = {'/metrics', '/spark/live'}
TOKENIZE = {'/tokenize', '/detokenize', '/apply-template'}
GENERATE = {'/v1/chat/completions', '/chat/completions', '/v1/completions', '/api/chat', '/api/generate', '/completion', '/completions'}


def routes():
    """(method, path) of each row that docs/API.md has; it is what the program's table says (api_tables_test)."""
    page = (ROOT / 'docs/API.md').read_text().split('### Routes\n')[1].split('\n### ')[0]
    return re.findall(r'^\| (GET|POST|DELETE) \| `(/[^`]*)` \|', page, re.M)


def right_of(path):
    for right, paths in ('', ANYONE), ('metrics', METRICS), ('tokenize', TOKENIZE), ('generate', GENERATE):
        if path in paths:
            return right
    return 'models'


def say(s, data):
    """What comes back on a connection of its own, until it ends."""
    with socket.create_connection(('127.0.0.1', s.port), timeout=20) as k, contextlib.suppress(OSError):
        k.sendall(data)
        return k.makefile('rb').read()
    return b''


class Routes(Folder):
    def setUp(self):
        super().setUp()
        self.keys = self.dir / 'keys'

    def test_every_route_asks_for_the_right_that_it_takes(self):
        keys = {r: new_key(self.keys, '--route', r) for r in ('generate', 'models', 'tokenize', 'embed')}
        keys['metrics'] = new_key(self.keys, '--route', 'embed', '--metrics')
        with Server('--keys', self.keys, key=keys['models']) as s:
            table = routes()
            self.assertGreater(len(table), 40)
            self.assertEqual(ANYONE | METRICS | TOKENIZE | GENERATE, {p for _, p in table if right_of(p) != 'models'})
            for method, path in table:
                takes, path = right_of(path), re.sub(r'{.*}', 'demo', path)
                for key in None, 'sk-nonsense': # who guesses is locked out soon
                    s.key = key
                    self.assertEqual(s.ask(method, path)[0] in (401, 429), takes != '', (method, path, key))
                for right, key in keys.items():
                    s.key = key
                    status, _, data = s.ask(method, path, {} if method == 'POST' else None)
                    refused = status == 403 and b'is not allowed to use routes' in data
                    self.assertEqual(refused, takes not in ('', right), (method, path, right, status, data))
                    self.assertNotEqual(status, 401, (method, path, right))

    def test_no_form_of_a_request_comes_in_without_a_key(self):
        new_key(self.keys)
        with Server('--keys', self.keys, auth=True) as s:
            n = 0
            for method, path in routes():
                if right_of(path) == '':
                    continue
                path = re.sub(r'{.*}', 'demo', path)
                for target in path, '/' + path, path + '/', path + '?key=x', path.upper(), '/health/..' + path, '/health%2f..' + path, path[:2] + '%%%02x' % ord(path[2]) + path[3:], \
                        f'http://localhost{path}', path + ';/health', path + '%20', '/.' + path:
                    for more in b'', b'X-Original-URL: /health\r\n', b'X-Forwarded-For: 127.0.0.1\r\n', b'Authorization: Bearer\r\n', b'Authorization: Basic YTpi\r\nX-Api-Key: \r\n', \
                            b'X-HTTP-Method-Override: OPTIONS\r\n':
                        for verb in {method, 'HEAD', 'OPTIONS'}:
                            said = say(s, f'{verb} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n'.encode() + more + b'\r\n')
                            self.assertRegex(said.split(b'\r\n')[0], rb'^HTTP/1\.1 (400|401|429|501) ', (verb, target, more))
                            n += 1
            self.assertGreater(n, 500)


class Limits(Folder):
    def setUp(self):
        super().setUp()
        self.keys = self.dir / 'keys'

    def refused(self, s, code='rate_limit_exceeded'):
        status, headers, data = s.ask('POST', '/v1/completions', {'model': 'demo', 'prompt': 'x', 'max_tokens': 1})
        self.assertEqual((status, json.loads(data)['error']['code']), (429, code), data)
        self.assertGreaterEqual(int(headers['Retry-After']), 1)

    def test_requests_and_tokens_of_a_minute_are_counted_for_each_key(self):
        few, short, other = new_key(self.keys, '--requests-per-minute', '2'), new_key(self.keys, '--tokens-per-minute', '100'), new_key(self.keys)
        with Server('--keys', self.keys, key=other) as s:
            s.key = few
            for _ in range(2):
                s.complete(max_tokens=1)
            self.refused(s)
            s.key = short
            s.complete(max_tokens=150, ignore_eos=True) # what it takes is known only when it is done
            self.refused(s)
            s.key = other
            s.complete(max_tokens=150, ignore_eos=True)
            s.complete(max_tokens=1)

    def test_a_key_sees_and_uses_its_models_only(self):
        key = new_key(self.keys, '--model', 'a')
        with Server('--model', 'a=', '--model', 'b=', '--keys', self.keys, key=key) as s:
            self.assertTrue(s.complete(model='a'))
            for path in '/v1/models', '/api/tags', '/api/ps':
                text = s.get(path)[1].decode()
                self.assertIn('"a', text)
                self.assertNotIn('"b', text)
            self.assertEqual(s.get('/v1/models/b')[0], 404)
            for path, body in ('/v1/completions', {'prompt': 'x'}), ('/api/generate', {'prompt': 'x', 'raw': True}), ('/completion', {'prompt': 'x'}), ('/tokenize', {'content': 'x'}), ('/api/show', {}):
                status, there = s.post(path, {'model': 'b', **body})
                self.assertIn(status, (403, 404), path)
                gone = s.post(path, {'model': 'c', **body})
                self.assertEqual(json.dumps(there).replace("'b'", "'c'"), json.dumps(gone[1]), path) # nothing tells which models there are
                self.assertEqual(status, gone[0])

    def test_guesses_lock_the_client_behind_a_proxy_and_neither_the_proxy_nor_its_others(self):
        key = new_key(self.keys)

        def come(client, text):
            head = b'\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c' + socket.inet_aton(client) + b'\x7f\0\0\1\x9c\x40\0\x50'
            return int(say(s, head + b'GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer ' + text.encode() + b'\r\n\r\n').split()[1])
        with Server('--keys', self.keys, '--proxy', '127.0.0.1', auth=True, wait=False) as s:
            s.wait_log('model_ready')
            guesses = [come('203.0.113.7', f'sk-spark-{"abcdefghij"[i:] + "a" * i}-{"a" * 59}') for i in range(9)]
            self.assertEqual((guesses[0], guesses[-1]), (401, 429))
            self.assertEqual(come('203.0.113.8', 'sk-nonsense'), 401)
            self.assertEqual(come('203.0.113.7', key), 200) # who has a right key is no guesser


class Tenants(Folder):
    SYSTEM = 'You speak for the ward, kindly and to the point. ' * 20
    SECRET = 'The patient of room seven has asked again for his letters. ' * 20

    def cached(self, s, key, user, system=SYSTEM):
        s.key = key
        status, data = s.post('/v1/chat/completions', {'model': 'chat', 'max_tokens': 1, 'messages': [{'role': 'system', 'content': system}, {'role': 'user', 'content': user}]})
        self.assertEqual(status, 200, data)
        return data['usage']['prompt_tokens_details']['cached_tokens']

    def test_the_operators_prompt_is_shared_with_all_and_nothing_behind_it(self):
        keys = self.dir / 'keys'
        one, other = new_key(keys), new_key(keys)
        (self.dir / 'system.txt').write_text(self.SYSTEM + '\n')
        options = ['--model', f'chat={chat_model(self.dir)}', '--keys', keys]
        with Server(*options, key=one) as s:
            self.assertEqual(self.cached(s, one, self.SECRET), 0)
            self.assertEqual(self.cached(s, other, self.SECRET), 0)
        (self.dir / 'system.txt').write_text(self.SYSTEM + '\n')
        with Server(*options, '--public-prefix', self.dir / 'system.txt', key=one) as s:
            self.assertEqual(self.cached(s, one, self.SECRET), 0)
            shared = self.cached(s, other, 'Hello')
            self.assertGreaterEqual(shared, 128)
            own = self.cached(s, one, self.SECRET)
            self.assertGreater(own, shared + 128) # its own words were kept as well
            self.assertEqual(self.cached(s, other, self.SECRET), shared) # and are nobody else's
            self.assertEqual(self.cached(s, other, self.SECRET, 'My ' + self.SYSTEM), 0)
            self.assertEqual(self.cached(s, one, self.SECRET, 'My ' + self.SYSTEM), 0) # what a client says becomes public to nobody


if __name__ == '__main__':
    unittest.main()
