"""spark serve among clients that mean it no good: others must not notice, and nothing may be left behind."""
import json, os, pathlib, random, resource, signal, socket, struct, threading, time, unittest

from gguf_edit import add_strings
from serving import Server, chat_model, in_parallel, new_key, resident
from support import DATA, Folder, needs_data, spark_json

STORIES = DATA / 'llm/stories260K/stories260K.q8_0.gguf'


def request(body, path='/v1/completions', extra=b''):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b'POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n' % (path.encode(), extra, len(data)) + data


def reset(k):
    k.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    k.close()


def dial(s, timeout=30):
    return socket.create_connection(('127.0.0.1', s.port), timeout)


def zombies(pid):
    """Children of the process that ended and were not waited for."""
    found = 0
    for p in os.listdir('/proc'):
        if p.isdigit():
            try:
                state, parent = pathlib.Path(f'/proc/{p}/stat').read_text().rpartition(')')[2].split()[:2]
            except OSError:
                continue
            found += state == 'Z' and int(parent) == pid
    return found


class Hostile(Folder):
    def beside(self, s, trouble, seconds):
        """Runs trouble(random) in three threads for some seconds while one client asks; its answers must not change."""
        ask = {'model': 'demo', 'prompt': 'Once upon a time', 'max_tokens': 12, 'seed': 7}
        before = s.complete(**ask)
        end, wrong = time.monotonic() + seconds, []

        def make(seed):
            rng = random.Random(seed)
            while time.monotonic() < end and not wrong:
                try:
                    trouble(rng)
                except OSError:
                    pass
                except BaseException as e:
                    wrong.append(e)
        threads = [threading.Thread(target=make, args=(i,)) for i in range(3)]
        for t in threads:
            t.start()
        n = 0
        try:
            while time.monotonic() < end or n <= 3:
                status, data = s.post('/v1/completions', ask)
                self.assertEqual((status, data.get('choices', [data])[0].get('text')), (200, before), data)
                n += 1
        finally:
            for t in threads:
                t.join()
        if wrong:
            raise wrong[0]
        s.wait_metric(0, 'spark_requests_running', model='demo')
        s.wait_metric(0, 'spark_requests_waiting', model='demo')
        s.wait_metric(0, 'spark_kv_pages', model='demo', state='used')
        return before

    def settles(self, s, before, seconds=15):
        """No process has more descriptors than before (when a connection may just have been closing)."""
        end = time.monotonic() + seconds
        while now := {who: n for who, n in s.descriptors().items() if n > before.get(who, 0)}:
            self.assertLess(time.monotonic(), end, (now, before))
            time.sleep(0.1)

    def test_requests_cut_anywhere_and_changed_anywhere(self):
        whole = request({'model': 'demo', 'prompt': 'Once upon a time', 'max_tokens': 30, 'stream': True, 'n': 2})

        def trouble(rng):
            data = bytearray(whole)
            if rng.random() < 0.6:
                for _ in range(rng.randrange(1, 4)):
                    data[rng.randrange(len(data))] = rng.randrange(256)
            data = bytes(data[:rng.randrange(1, len(data) + 1)])
            with dial(s, 5) as k:
                at = rng.randrange(len(data) + 1)
                k.sendall(data[:at])
                k.sendall(data[at:])
                how = rng.randrange(4)
                if how == 0:
                    reset(k)
                elif how == 1:
                    k.shutdown(socket.SHUT_WR)
                    k.recv(65536)
                elif how == 2:
                    k.settimeout(0.02)
                    k.recv(rng.randrange(1, 4096))
        with Server() as s:
            s.complete()
            before = s.descriptors()
            self.beside(s, trouble, 6)
            self.settles(s, before)

    def test_storms_of_resets(self):
        body = request({'model': 'demo', 'prompt': 'Once upon a time', 'max_tokens': 400, 'stream': True})

        def trouble(rng):
            many = [dial(s, 5) for _ in range(20)]
            for k in many:
                k.sendall(body * rng.randrange(1, 3))
            time.sleep(rng.random() * 0.05)
            for k in many:
                reset(k)
        with Server() as s:
            s.complete()
            before = s.descriptors()
            self.beside(s, trouble, 5)
            self.settles(s, before)

    def test_requests_whose_clients_were_gone_before_they_were_read_cost_nothing(self):
        body = request({'model': 'demo', 'prompt': 'Once upon a time', 'max_tokens': 400, 'stream': True})
        with Server() as s:
            front = s.cells()['front'][0]
            whole = s.complete(max_tokens=12)
            os.kill(front, signal.SIGSTOP)
            for _ in range(400): # more than run and wait at once
                k = dial(s)
                k.sendall(body)
                reset(k)
            os.kill(front, signal.SIGCONT)
            self.assertEqual(s.complete(max_tokens=12), whole)
            text = s.get('/metrics')[1].decode()
            self.assertNotIn('status="499"', text)
            self.assertNotIn('status="429"', text)
            self.assertEqual(s.metric('spark_requests_total', model='demo', finish='cancelled'), 0)

    def test_readers_that_pause_get_all_of_every_choice(self):
        fields = {'model': 'demo', 'prompt': 'Once upon a time', 'max_tokens': 400, 'stream': True, 'n': 8, 'seed': 7, 'ignore_eos': True}
        with Server('--parallel', '32', '--max-backlog', '32K') as s:
            whole = s.complete(max_tokens=40)
            many = []
            for _ in range(4):
                k = socket.socket()
                k.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                k.connect(('127.0.0.1', s.port))
                k.settimeout(60)
                k.sendall(request(fields))
                many.append(k)
            time.sleep(2)
            self.assertEqual(s.complete(max_tokens=40), whole)
            texts = []
            for k in many:
                data = b''
                while b'0\r\n\r\n' not in data[-16:]:
                    more = k.recv(65536)
                    self.assertTrue(more, data[-300:])
                    data += more
                self.assertIn(b'[DONE]', data)
                choices = ['' for _ in range(8)]
                for line in data.split(b'\n'):
                    if line.startswith(b'data: {'):
                        c = json.loads(line[6:])['choices'][0]
                        choices[c['index']] += c['text']
                texts.append(choices)
                k.close()
            for choices in texts: # a seed gives the same to everybody
                self.assertEqual(choices, texts[0])

    def test_large_answers_that_nobody_reads_stay_within_the_plan_and_lock_nobody_out(self):
        options = ['--model', f'c={chat_model(self.dir)}', '--memory', '400M', '--max-replies', '4M', '--parallel', '8', '--queue', '64', '--ctx', '1024']
        plan = spark_json('plan', '--json', *options)['front']
        self.assertEqual(plan['replies'], 4 << 20)
        body = {'model': 'c', 'messages': [{'role': 'user', 'content': 'x'}], 'logprobs': True, 'top_logprobs': 20, 'max_tokens': 400, 'ignore_eos': True}
        with Server(*options) as s:
            def resident_now():
                return resident(s.cells()['front'][0]) + resident(s.process.pid)

            def large():
                status, data = s.post('/v1/chat/completions', body)
                self.assertEqual((status, len(data['choices'][0]['logprobs']['content']) if status == 200 else data), (200, 400))
            large()
            before, held = resident_now(), []
            for i in range(32): # 800 KB each
                k = socket.socket()
                k.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                k.settimeout(60)
                k.connect(('127.0.0.1', s.port))
                self.addCleanup(k.close)
                k.sendall(request({**body, 'seed': i}, '/v1/chat/completions'))
                held.append(k)
            status = [k.recv(12, socket.MSG_PEEK)[9:] for k in held] # all are answered; that is all that they read
            self.assertEqual(set(status), {b'200', b'503'})
            self.assertGreaterEqual(status.count(b'200'), 3)
            self.assertLessEqual(s.metric('spark_replies_bytes'), 4 << 20)
            self.assertLessEqual(resident_now(), plan['planned'])
            self.assertLessEqual(resident_now() - before, 10 << 20)
            refused = held[status.index(b'503')].recv(4096)
            self.assertIn(b'"code":"overloaded"', refused)
            self.assertIn(b'\r\nRetry-After: 1\r\n', refused)
            self.assertEqual(s.metric('spark_requests_running', model='c'), 0) # whose answer was refused is computed no further
            for _ in range(3):
                self.assertTrue(s.complete(model='c')) # those who hold little are served
            end = time.monotonic() + 20 # the others until those who take nothing were let go, 5 s after they stopped
            while (answer := s.post('/v1/chat/completions', body))[0] != 200:
                self.assertEqual(answer[1]['error']['code'], 'overloaded')
                self.assertLess(time.monotonic(), end)
                time.sleep(0.2)
            for k in held:
                reset(k)
            s.wait_metric(0, 'spark_replies_bytes')
            for _ in range(3):
                large()
            s.wait_metric(0, 'spark_replies_bytes')

    def test_ten_thousand_connections_that_do_nothing(self):
        n = min(10000, self.room_for_descriptors() - 200)
        with Server('--max-connections', n + 100) as s:
            front = s.cells()['front'][0]
            planned = spark_json('plan', '--json', '--max-connections', n + 100)['front']['planned']
            before, descriptors = s.complete(max_tokens=12), s.descriptors()
            many = [dial(s) for _ in range(n)]
            for k in many[::2]:
                k.sendall(b'GET /health HT')
            self.assertEqual(s.complete(max_tokens=12), before)
            self.assertEqual(in_parallel(16, lambda i: s.get('/health/live')[0]), [200] * 16)
            self.assertGreaterEqual(s.metric('spark_connections'), n)
            self.assertLessEqual(resident(front) + resident(s.process.pid), planned)
            for k in many:
                k.close()
            self.settles(s, descriptors)
            self.assertEqual(s.cells()['front'], [front])

    def room_for_descriptors(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        return hard

    def test_a_burst_that_nobody_accepts_yet_waits_and_is_answered(self):
        n = min(3000, int(pathlib.Path('/proc/sys/net/core/somaxconn').read_text()) - 100, self.room_for_descriptors() - 200)
        with Server() as s:
            front = s.cells()['front'][0]
            os.kill(front, signal.SIGSTOP)
            many = []
            for _ in range(n): # each is let in by the backlog, or waits a second at least
                many.append(dial(s, 0.9))
                many[-1].sendall(b'GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
            os.kill(front, signal.SIGCONT)
            for k in many:
                k.settimeout(20)
                self.assertTrue(k.recv(4096).startswith(b'HTTP/1.1 200 '))
                k.close()

    def test_kills_at_random_moments(self):
        rng = random.Random(11)
        with Server('--model', 'a=', '--model', 'b=') as s:
            expected = {m: s.complete(model=m, max_tokens=12) for m in 'ab'}
            end, seen = time.monotonic() + 8, set()

            def clients(i):
                model = 'ab'[i % 2]
                while time.monotonic() < end:
                    try:
                        status, data = s.post('/v1/completions', {'model': model, 'prompt': 'Once upon a time', 'max_tokens': 12, 'seed': 7})
                    except (OSError, ValueError): # the front was killed
                        continue
                    except Exception as e:
                        if type(e).__module__ != 'http.client':
                            raise
                        continue
                    seen.add(status)
                    if status == 200:
                        self.assertEqual(data['choices'][0]['text'], expected[model])
                    else:
                        self.assertEqual(status, 503, data)
                        self.assertIn(data['error']['code'], ('engine_failed', 'model_unavailable'))

            def kills(_):
                while time.monotonic() < end:
                    time.sleep(rng.random() * 0.6)
                    pids = [p for ps in s.cells().values() for p in ps]
                    if pids:
                        try:
                            os.kill(rng.choice(pids), signal.SIGKILL)
                        except ProcessLookupError:
                            pass
            in_parallel(5, lambda i: kills(i) if i == 4 else clients(i))
            self.assertIn(200, seen)
            deadline = time.monotonic() + 60 # who ended often is started again after a while
            for m in 'ab':
                while True:
                    self.assertLess(time.monotonic(), deadline, s.log()[-2000:])
                    try:
                        status, data = s.post('/v1/completions', {'model': m, 'prompt': 'Once upon a time', 'max_tokens': 12, 'seed': 7})
                    except Exception:
                        status = 0
                    if status == 200:
                        break
                    time.sleep(0.1)
                self.assertEqual(data['choices'][0]['text'], expected[m])
            self.assertEqual(zombies(s.process.pid), 0)
            self.assertEqual({name: len(p) for name, p in s.cells().items()}, {'front': 1, 'engine a': 1, 'engine b': 1})
            s.signal(signal.SIGTERM)
            self.assertEqual(s.process.wait(20), 0)
            self.assertEqual(s.cells(), {})

    def test_models_come_and_go_under_load_without_a_failed_request(self):
        with Server('--model', 'a=', '--model', 'b=', '--load', 'use', '--keep-alive', '30ms') as s:
            expected = s.complete(model='a', max_tokens=4)

            def clients(i):
                rng = random.Random(i)
                for _ in range(30):
                    self.assertEqual(s.complete(model='ab'[i % 2], max_tokens=4), expected)
                    time.sleep(rng.random() * 0.12)
            in_parallel(2, clients)
            self.assertGreater(s.log().count('"engine_ended"'), 3) # they did go

    def test_models_that_make_room_for_each_other_fail_no_request(self):
        with Server('--model', 'a=', '--model', 'b=', '--model', 'c=', '--load', 'use', '--memory', '230M') as s:
            expected = s.complete(model='a', max_tokens=4)

            def clients(i):
                rng = random.Random(i)
                for _ in range(10):
                    self.assertEqual(s.complete(model=rng.choice('abc'), max_tokens=4), expected)
            in_parallel(3, clients)

    def test_what_a_key_may_holds_and_its_place_comes_back_whatever_happens(self):
        keys = self.dir / 'keys'

        def key(*options):
            return new_key(keys, *options)
        one, small, other = key('--max-parallel', '1'), key('--max-context', '40'), key('--name', 'other')
        with Server('--keys', keys, auth=True) as s:
            s.key = one
            body = {'model': 'demo', 'prompt': 'Once upon a time', 'max_tokens': 2}
            for _ in range(3): # each takes the only place, and gives it back
                self.assertEqual(s.get('/nonesuch')[0], 404)
                self.assertEqual(s.ask('GET', '/v1/completions')[0], 405)
                self.assertEqual(s.get('/v1/models')[0], 200)
                self.assertEqual(s.post('/v1/completions', {'model': 'nonesuch', 'prompt': 'x'})[0], 404)
                self.assertEqual(s.post('/v1/completions', {'prompt': 5})[0], 400)
                self.assertEqual(s.post('/v1/completions', body)[0], 200)
                c, r = s.stream(max_tokens=400)
                self.assertEqual(s.post('/v1/completions', body)[0], 429)
                c.sock.shutdown(socket.SHUT_RDWR)
                r.close(), c.close()
                end = time.monotonic() + 10
                while s.post('/v1/completions', body)[0] == 429:
                    self.assertLess(time.monotonic(), end)
                    time.sleep(0.02)
            s.key = small
            status, data = s.post('/v1/completions', {**body, 'prompt': 'word ' * 60})
            self.assertEqual((status, data['error']['code']), (400, 'context_length_exceeded'))
            long = {**body, 'prompt': 'Once upon a time there was a dog. ' * 30}

            def cached(k):
                s.key = k
                return s.post('/v1/completions', long)[1]['usage'].get('prompt_tokens_details', {}).get('cached_tokens', 0)
            self.assertEqual(cached(one), 0)
            self.assertGreater(cached(one), 0)
            self.assertEqual(cached(other), 0) # what one tenant sent must not show to another

    @needs_data
    def test_a_template_that_grows_in_json_is_served(self):
        file = self.dir / 'm.gguf'
        file.write_bytes(add_strings(STORIES.read_bytes(), tokenizer__chat_template='{{ messages[0].content }}' + '\x01' * 900000))
        with Server('--model', f'm={file}') as s:
            self.assertTrue(s.complete())


if __name__ == '__main__':
    unittest.main()
