"""spark serve as a whole: cells, life, keys, budgets, and the same bytes for everybody."""
import contextlib, ctypes, http.client, json, os, pathlib, random, shutil, signal, socket, struct, subprocess, threading, time, unittest

from serving import Server, UnixConnection, chat_model, in_parallel, new_key
from support import DATA, Folder, SPARK, needs_data, spark, wait_until

STORIES = DATA / 'llm/stories260K/stories260K.q8_0.gguf'


class Life(Folder):
    def test_ready_answers_and_ends_in_order(self):
        with Server() as s:
            self.assertEqual(set(s.cells()), {'front', 'engine demo'})
            self.assertTrue(s.complete(model='demo'))
            for path in ('/health', '/health/live', '/health/ready', '/health/startup'):
                self.assertEqual(s.get(path)[0], 200, path)
            s.signal(signal.SIGTERM)
            self.assertEqual(s.process.wait(10), 0)
            self.assertEqual(s.cells(), {})

    def test_cells_have_no_way_out(self):
        with Server('--threads', '3') as s:
            self.assertEqual(len(os.listdir(f"/proc/{s.cells()['engine demo'][0]}/task")), 3)
            for name, pids in s.cells().items():
                status = dict(l.split(':', 1) for l in pathlib.Path(f'/proc/{pids[0]}/status').read_text().splitlines())
                self.assertEqual(status['NoNewPrivs'].strip(), '1', name)
                for task in pathlib.Path(f'/proc/{pids[0]}/task').iterdir(): # every thread, those that compute, too
                    self.assertRegex((task / 'status').read_text(), r'(?m)^Seccomp:\s+2$', (name, task))
                self.assertEqual(int(status['CapEff'], 16), 0, name)
                for ns in ('net', 'mnt', 'ipc', 'user'):
                    self.assertNotEqual(os.readlink(f'/proc/{pids[0]}/ns/{ns}'), os.readlink(f'/proc/self/ns/{ns}'), (name, ns))
            if os.geteuid() == 0:
                uids = {os.stat(f'/proc/{p[0]}').st_uid for p in s.cells().values()}
                self.assertEqual(len(uids), 2)
                self.assertNotIn(0, uids)

    def test_threads_of_an_engine_have_cpus_of_their_own_if_there_are_as_many(self):
        cpus = os.sched_getaffinity(0)
        for n in len(cpus), len(cpus) + 1:
            with Server('--threads', n) as s:
                tasks = [int(t) for t in os.listdir(f"/proc/{s.cells()['engine demo'][0]}/task")]
                own = sorted(sorted(os.sched_getaffinity(t)) for t in tasks)
                self.assertEqual(own, [[c] for c in sorted(cpus)] if n == len(cpus) else [sorted(cpus)] * n)

    def test_the_front_runs_soon_after_it_wakes(self):
        def slice_of(pid): # ns; 0 where Linux tells none (before 6.12)
            attr = ctypes.create_string_buffer(56)
            number = {'x86_64': 315, 'aarch64': 275}[os.uname().machine] # sched_getattr
            self.assertEqual(ctypes.CDLL(None).syscall(number, pid, attr, 56, 0), 0)
            return struct.unpack_from('=Q', attr, 24)[0]
        with Server() as s:
            usual, cells = slice_of(os.getpid()), s.cells()
            self.assertEqual(slice_of(cells['front'][0]), 100000 if usual else 0)
            self.assertEqual(slice_of(cells['engine demo'][0]), usual)

    def test_an_engine_that_is_killed_costs_its_stream_and_nothing_else(self):
        with Server('--model', 'a=', '--model', 'b=') as s:
            before = s.complete(model='a')
            c, r = s.stream(model='a', max_tokens=400)
            other_c, other = s.stream(model='b', max_tokens=100)
            r.read(40), other.read(40)
            s.kill('engine a')
            rest = r.read()
            self.assertIn(b'"code":"engine_failed"', rest)
            self.assertNotIn(b'[DONE]', rest)
            self.assertEqual(s.complete(model='a'), before) # waits for the new one
            self.assertTrue(other.read().strip().endswith(b'[DONE]'))
            c.close(), other_c.close()

    def test_a_front_that_is_killed_is_replaced_and_engines_stay(self):
        with Server() as s:
            before = s.complete()
            engine = s.cells()['engine demo']
            for _ in range(3):
                s.kill('front')
                s.wait_ready()
                self.assertEqual(s.complete(), before)
            self.assertEqual(s.cells()['engine demo'], engine)

    def test_an_engine_outlives_more_fronts_than_it_has_links(self):
        with Server() as s:
            before = s.complete()
            for _ in range(10):
                s.kill('front')
                s.wait_ready()
            self.assertEqual(s.complete(), before)

    def test_cells_end_with_the_warden(self):
        with Server() as s:
            pids = [p for ps in s.cells().values() for p in ps]
            s.signal(signal.SIGKILL)
            s.process.wait()
            end = time.monotonic() + 5
            while any(os.path.exists(f'/proc/{p}') for p in pids):
                self.assertLess(time.monotonic(), end)
                time.sleep(0.02)

    def listens(self, port):
        with socket.socket() as k:
            return k.connect_ex(('127.0.0.1', port)) == 0

    def test_sigterm_lets_a_stream_finish_and_takes_no_more(self):
        with Server('--drain-timeout', '60') as s:
            c, r = s.stream(max_tokens=200)
            r.read(20)
            s.signal(signal.SIGTERM)
            wait_until(lambda: not self.listens(s.port))
            self.assertTrue(r.read().strip().endswith(b'[DONE]'))
            c.close()
            self.assertEqual(s.process.wait(20), 0)

    def endless(self, *options):
        """A server, and a stream of it that takes seconds."""
        s = Server('--model', f'chat={chat_model(self.dir)}', '--ctx', '8192', *options)
        self.addCleanup(s.__exit__)
        c, r = s.stream(max_tokens=8000, ignore_eos=True)
        self.addCleanup(c.close)
        r.read(20)
        return s, r

    def ends_midway(self, s, r):
        self.assertEqual(s.process.wait(20), 0)
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.assertNotIn(b'[DONE]', r.read())

    def test_a_second_sigterm_ends_at_once(self):
        s, r = self.endless('--drain-timeout', '60')
        s.signal(signal.SIGTERM)
        s.wait_log('"draining"') # else the two may count as one
        s.signal(signal.SIGTERM)
        self.ends_midway(s, r)

    def test_what_is_not_done_after_the_time_to_drain_is_cut(self):
        s, r = self.endless('--drain-timeout', '1')
        began = time.monotonic()
        s.signal(signal.SIGTERM)
        self.ends_midway(s, r)
        self.assertGreater(time.monotonic() - began, 0.9)

    @needs_data
    def test_a_changed_file_is_swapped_in_without_a_failed_request(self):
        file = self.dir / 'm.gguf'
        shutil.copy(STORIES, file)
        with Server('--model', f'm={file}') as s:
            before = s.complete(max_tokens=8)
            swapped = threading.Event()

            def clients():
                n = 0
                while not swapped.is_set() or n == 0:
                    self.assertEqual(s.complete(max_tokens=8), before)
                    n += 1
                return n

            def swaps():
                try:
                    for _ in range(3):
                        old = s.cells()['engine m']
                        shutil.copy(STORIES, self.dir / 'new.gguf')
                        os.rename(self.dir / 'new.gguf', file)
                        s.signal(signal.SIGHUP)
                        wait_until(lambda: set(s.cells()['engine m']).isdisjoint(old)) # the new one serves, the old one has drained
                        time.sleep(0.3)
                finally:
                    swapped.set()
            done = in_parallel(5, lambda i: swaps() if i == 0 else clients())
            self.assertGreater(min(done[1:]), 0)

    @needs_data
    def test_a_swap_to_a_broken_file_leaves_the_old_model(self):
        file = self.dir / 'm.gguf'
        shutil.copy(STORIES, file)
        with Server('--model', f'm={file}') as s:
            before = s.complete()
            (self.dir / 'bad').write_bytes(b'GGUF' + bytes(100))
            os.rename(self.dir / 'bad', file)
            s.signal(signal.SIGHUP)
            s.wait_log('"model_failed"')
            self.assertEqual(s.complete(), before)

    def test_a_model_that_cannot_be_loaded_ends_the_start_with_1(self):
        bad = self.dir / 'bad.gguf'
        bad.write_bytes(b'GGUF' + bytes(60))
        p = subprocess.run([SPARK, 'serve', '--model', f'm={bad}', '--listen', 'tcp:127.0.0.1:0', '--no-auth'],
                           capture_output=True, timeout=20)
        self.assertEqual(p.returncode, 1, p.stderr)
        self.assertIn(b'model_failed', p.stderr)

    def test_a_file_that_is_needed_later_and_missing_now_is_told_at_start(self):
        with Server('--model', 'demo=', '--model', f'later={self.dir}/none.gguf', '--model-set', 'later.load=use') as s:
            told = [json.loads(line) for line in s.log().splitlines() if '"model_file"' in line]
            self.assertEqual([(t['level'], t['model'], t['file']) for t in told], [('warn', 'later', f'{self.dir}/none.gguf')])

    def test_an_address_in_use_is_told(self):
        with Server() as s:
            p = subprocess.run([SPARK, 'serve', '--listen', f'tcp:127.0.0.1:{s.port}', '--no-auth'], capture_output=True, timeout=20)
            self.assertEqual(p.returncode, 1)
            self.assertIn(b'in use', p.stderr)

    def test_a_normal_user_can_serve(self):
        if os.geteuid() != 0:
            self.skipTest('is one already')
        with Server('--model', 'demo=', user=12345) as s:
            self.assertTrue(s.complete())


class Doors(Folder):
    def test_without_a_key_file_a_key_is_made_for_tcp_and_printed_once(self):
        with Server(auth=True) as s:
            key = [w for w in s.log().split() if w.startswith('sk-spark-')][0].strip("'")
            self.assertEqual(s.get('/v1/models')[0], 401)
            self.assertEqual(s.get('/health')[0], 200)
            s.key = key
            self.assertEqual(s.get('/v1/models')[0], 200)
            s.key = key[:-1] + ('a' if key[-1] != 'a' else 'b')
            self.assertEqual(s.get('/v1/models')[0], 401)

    def test_keys_of_a_file_and_their_reload(self):
        keys = self.dir / 'keys'
        one = new_key(keys, '--name', 'one')
        with Server('--keys', keys, auth=True) as s:
            s.key = one
            self.assertTrue(s.complete(model='demo'))
            two = new_key(keys, '--name', 'two')
            s.key = two
            self.assertEqual(s.get('/v1/models')[0], 401)
            spark('key', 'revoke', '--keys', keys, 'one')
            s.signal(signal.SIGHUP)
            s.key = one
            wait_until(lambda: s.get('/v1/models')[0] == 401)
            s.key = two
            self.assertEqual(s.get('/v1/models')[0], 200)

    def test_a_unix_socket_needs_no_key_and_is_its_owners(self):
        path = str(self.dir / 's')
        with Server('--listen', f'unix:{path}', auth=True) as s:
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
            self.assertEqual(s.ask('GET', '/v1/models', connection=UnixConnection(path, 10))[0], 200)
            self.assertEqual(s.get('/v1/models')[0], 401)

    def test_other_addresses_demand_keys_and_tls(self):
        for more in ([], ['--no-auth'], ['--keys', self.dir / 'k']):
            if more and more[0] == '--keys':
                new_key(self.dir / 'k')
            code, _, err = spark('serve', '--listen', 'tcp:0.0.0.0:0', *more, timeout=20)
            self.assertEqual(code, 3, err)
            self.assertRegex(err, 'TLS|keys|loopback')

    def test_foreign_names_and_pages_are_kept_out_where_no_key_is_asked(self):
        with Server() as s:
            for headers in ({'Host': 'evil.example'}, {'Origin': 'https://evil.example'}, {'Host': 'evil.example:80', 'Origin': 'http://evil.example:80'}):
                self.assertEqual(s.get('/v1/models', headers=headers)[0], 403, headers)
            for host in ('localhost', f'127.0.0.1:{s.port}', '[::1]:80'):
                self.assertEqual(s.get('/v1/models', headers={'Host': host})[0], 200, host)
        with Server('--allowed-host', 'ward.example') as s:
            for host, status in ('ward.example', 200), ('ward.example:80', 200), ('localhost', 200), ('award.example', 403), ('ward.example.evil.example', 403):
                self.assertEqual(s.get('/v1/models', headers={'Host': host})[0], status, host)

    def test_listed_origins_get_cors_and_others_none(self):
        with Server('--cors', 'https://app.example') as s:
            status, headers, _ = s.ask('OPTIONS', '/v1/chat/completions', headers={'Origin': 'https://app.example', 'Access-Control-Request-Method': 'POST'})
            self.assertEqual(status, 204)
            self.assertEqual(headers['Access-Control-Allow-Origin'], 'https://app.example')
            for name in ('Authorization', 'X-Request-Timeout-Ms', 'X-Stainless-Retry-Count'): # the last one: OpenAI's client in a page
                self.assertIn(name, headers['Access-Control-Allow-Headers'])
            status, headers, _ = s.ask('GET', '/v1/models', headers={'Origin': 'https://app.example'})
            self.assertEqual((status, headers['Access-Control-Allow-Origin']), (200, 'https://app.example'))
            status, headers, _ = s.ask('GET', '/health', headers={})
            self.assertIsNone(headers['Access-Control-Allow-Origin'])
        with Server('--cors', 'https://app.example', auth=True) as s: # where a key is asked anyone may try, but no page reads the answer
            for method in 'GET', 'OPTIONS':
                for origin in 'https://evil.example', 'https://app.example.evil.example', 'http://app.example', 'null':
                    status, headers, _ = s.ask(method, '/v1/models', headers={'Origin': origin, 'Access-Control-Request-Method': 'GET'})
                    self.assertEqual((status, headers['Access-Control-Allow-Origin']), (401, None), (method, origin))

    def test_what_is_not_there_is_told_only_to_those_with_a_key(self):
        with Server(auth=True) as s:
            self.assertEqual(s.get('/nonesuch')[0], 401)
            s.key = [w for w in s.log().split() if w.startswith('sk-spark-')][0].strip("'")
            self.assertEqual(s.get('/nonesuch')[0], 404)
            for path in '/v1', '/v1/', '/v1/v1/models': # a client's base URL, opened or doubled
                status, headers, body = s.ask('GET', path, headers={'Accept': 'text/html'})
                error = json.loads(body)['error']
                self.assertEqual((status, headers['Content-Type'], error['code']), (404, 'application/json', 'not_found'))
                self.assertIn('POST /v1/chat/completions', error['message'])
            status, headers, _ = s.ask('GET', '/v1/completions')
            self.assertEqual((status, headers['Allow']), (405, 'POST'))

    def test_logs_hold_no_text_of_prompts_or_answers(self):
        with Server() as s:
            answer = s.complete('A secret about Zanzibar')
            self.assertNotIn('Zanzibar', s.log())
            self.assertNotIn(answer[:12], s.log())
            _, headers, _ = s.ask('POST', '/v1/completions', {'model': 'demo', 'prompt': 'x', 'max_tokens': 1})
            requests = [json.loads(line) for line in s.log().splitlines() if '"event":"request"' in line]
            self.assertEqual((len(requests), requests[-1]['request'], requests[-1]['status']), (2, headers['X-Request-Id'], 200))


class Many(Folder):
    def test_the_same_bytes_alone_and_among_many(self):
        words = ['Once', 'upon', 'a', 'time', 'there', 'was', 'little', 'dog', 'who', 'loved', 'to', 'play', 'with', 'the', 'ball', '.']
        rng = random.Random(5)
        asks = []
        for i in range(20):
            prompt = ' '.join(rng.choices(words, k=rng.choice((1, 3, 40, 150, 300))))
            asks.append(dict(prompt=prompt, max_tokens=rng.randrange(1, 40), temperature=rng.choice((0, 0.7, 1.3)), seed=rng.randrange(1000),
                             top_p=rng.choice((1, 0.9)), frequency_penalty=rng.choice((0, 0.5))))
        with Server('--parallel', '1', '--no-prefix-cache') as s:
            alone = [s.complete(**a) for a in asks]
        for more in (['--threads', '1', '--parallel', '16'], ['--threads', '2', '--parallel', '5', '--itl-target', '2ms']):
            with Server(*more) as s:
                order = [i for i in range(len(asks)) for _ in range(2)]
                rng.shuffle(order)
                together = in_parallel(len(order), lambda k: s.complete(**asks[order[k]]))
                for k, text in enumerate(together):
                    self.assertEqual(text, alone[order[k]], (more, asks[order[k]]))
                self.assertEqual([s.complete(**a) for a in asks], alone) # now with what the cache kept

    def test_a_stream_has_the_bytes_of_the_whole_answer(self):
        with Server() as s:
            whole = s.complete(max_tokens=60)
            c, r = s.stream(max_tokens=60)
            text = ''.join(json.loads(l[6:])['choices'][0]['text'] for l in r.read().decode().splitlines() if l.startswith('data: {'))
            self.assertEqual(text, whole)
            c.close()

    LONG = {'prompt': 'Once upon a time', 'max_tokens': 8000, 'ignore_eos': True}

    def endless(self, *options):
        """A server of a model whose answers take seconds."""
        return Server('--model', f'chat={chat_model(self.dir)}', '--ctx', '8192', *options)

    def asks(self, s, **fields):
        """A connection on which was asked."""
        body = json.dumps({'model': s.model, 'prompt': 'Once upon a time', **fields}).encode()
        k = socket.create_connection(('127.0.0.1', s.port))
        k.sendall(b'POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n' % len(body) + body)
        return k

    @contextlib.contextmanager
    def leaving(self, k, how):
        """Leaves in one of several ways. Who closes one half stays for the answer."""
        if how == 'half-close':
            k.shutdown(socket.SHUT_WR)
        else:
            if how == 'reset':
                k.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            k.close()
        yield
        k.close()

    def is_cancelled(self, s, k, how, others=0):
        before = s.metric('spark_requests_total', model=s.model, finish='cancelled')
        with self.leaving(k, how):
            s.wait_metric(before + 1, 'spark_requests_total', model=s.model, finish='cancelled')
            s.wait_metric(0, 'spark_requests_waiting', model=s.model)
            s.wait_metric(others, 'spark_requests_running', model=s.model)
            if not others:
                s.wait_metric(0, 'spark_kv_pages', model=s.model, state='used')

    def test_who_leaves_frees_the_place_at_once(self):
        with self.endless() as s:
            for how in ('close', 'reset', 'half-close'):
                for stream in (True, False):
                    k = self.asks(s, **self.LONG, stream=stream)
                    s.wait_metric(1, 'spark_requests_running', model=s.model)
                    self.is_cancelled(s, k, how)
            self.assertEqual(s.metric('spark_requests_total', model=s.model, finish='length'), 0) # none came to its end

    def test_who_leaves_while_it_waits_or_its_prompt_is_read_is_gone_too(self):
        with self.endless('--parallel', '1') as s:
            for how in ('close', 'reset', 'half-close'):
                first = self.asks(s, **self.LONG, stream=True)
                s.wait_metric(1, 'spark_requests_running', model=s.model)
                for stream in (True, False):
                    k = self.asks(s, **self.LONG, stream=stream)
                    s.wait_metric(1, 'spark_requests_waiting', model=s.model)
                    self.is_cancelled(s, k, how, others=1)
                self.is_cancelled(s, first, how)
                prompts = [[1 + (i * p) % 200 for i in range(8000)] for p in (1, 3, 7, 9)] # its life is the reading of them
                k = self.asks(s, prompt=prompts, max_tokens=1, stream=how == 'close')
                s.wait_metric(1, 'spark_requests_running', model=s.model)
                self.is_cancelled(s, k, how)
            self.assertEqual(s.metric('spark_requests_total', model=s.model, finish='length'), 0)

    def test_a_request_ends_with_the_time_its_client_gave_it(self):
        with Server('--parallel', '1') as s:
            ask = {'model': 'demo', 'prompt': 'Once upon a time', 'max_tokens': 450, 'ignore_eos': True}
            times = {'X-Request-Timeout-Ms': '60000'}
            status, _, whole = s.ask('POST', '/v1/completions', ask, headers=times)
            self.assertEqual(status, 200)
            status, _, data = s.ask('POST', '/v1/completions', ask, headers={'X-Request-Timeout-Ms': '1'})
            self.assertIn((status, json.loads(data)['error']['code']), [(504, 'deadline_exceeded'), (503, 'deadline_cannot_be_met')])
            self.assertEqual(s.ask('POST', '/v1/completions', ask, headers={'X-Request-Timeout-Ms': 'soon'})[0], 400)
            s.wait_metric(0, 'spark_requests_running', model='demo', seconds=5)
            s.wait_metric(0, 'spark_kv_pages', model='demo', state='used', seconds=5)

    def test_a_model_that_cannot_chat_says_what_can_be_done(self):
        with Server() as s:
            status, data = s.post('/v1/chat/completions', {'model': 'demo', 'messages': [{'role': 'user', 'content': 'Hello'}]})
            self.assertEqual((status, data['error']['code']), (400, 'unsupported'))
            self.assertRegex(data['error']['message'], 'no chat template; /v1/completions')

    def test_a_request_reaches_its_engine_soon_after_its_last_byte(self):
        with Server() as s:
            c = s.connect()
            for _ in range(50):
                s.ask('POST', '/v1/completions', {'model': 'demo', 'prompt': 'x', 'max_tokens': 1}, connection=c)
            self.assertEqual(s.metric('spark_handover_seconds_count'), 50)
            self.assertGreater(s.metric('spark_handover_seconds_sum'), 0)
            self.assertGreaterEqual(s.metric('spark_handover_seconds_bucket', le='0.005'), 25) # half of them, on any machine

    def test_a_full_queue_refuses_with_retry_after(self):
        with Server('--parallel', '1', '--queue', '1') as s:
            streams = [s.stream(wait=False, max_tokens=450) for _ in range(4)] # one runs, one may have begun, one waits
            status, headers, data = s.ask('POST', '/v1/completions', {'model': 'demo', 'prompt': 'x', 'max_tokens': 1})
            self.assertEqual(status, 429, data)
            self.assertGreaterEqual(int(headers['Retry-After']), 1)
            self.assertEqual(json.loads(data)['error']['code'], 'rate_limit_exceeded')
            for c, _ in streams:
                c.close()

    def test_a_prompt_beyond_the_context_is_an_error_and_never_cut(self):
        with Server() as s:
            status, data = s.post('/v1/completions', {'model': 'demo', 'prompt': 'word ' * 2000, 'max_tokens': 1})
            self.assertEqual((status, data['error']['code']), (400, 'context_length_exceeded'))

    def test_a_slow_reader_stops_only_itself(self):
        with Server() as s:
            k = socket.create_connection(('127.0.0.1', s.port))
            k.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            body = json.dumps({'model': 'demo', 'prompt': 'Once upon a time', 'max_tokens': 450, 'stream': True, 'logprobs': 5}).encode()
            k.sendall(b'POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n' % len(body) + body)
            whole = s.complete(max_tokens=60)
            self.assertEqual(len(in_parallel(8, lambda i: s.complete(max_tokens=20))), 8)
            self.assertEqual(s.complete(max_tokens=60), whole)
            k.close()

    def test_descriptors_and_pages_come_back(self):
        with Server() as s:
            s.complete()
            before = s.descriptors()
            for i in range(30):
                with self.leaving(self.asks(s, max_tokens=450, stream=i % 2 == 0), ('close', 'reset', 'half-close')[i % 3]) if i % 5 == 0 else contextlib.nullcontext():
                    s.complete(max_tokens=2)
            s.wait_metric(0, 'spark_requests_running', model='demo')
            end = time.monotonic() + 5
            while s.descriptors() != before and time.monotonic() < end:
                time.sleep(0.1)
            self.assertEqual(s.descriptors(), before)


class Budget(Folder):
    def test_a_budget_that_is_too_small_is_refused_with_the_sum(self):
        p = subprocess.run([SPARK, 'serve', '--memory', '70M', '--listen', 'tcp:127.0.0.1:0', '--no-auth'], capture_output=True, timeout=20)
        self.assertEqual(p.returncode, 1, p.stderr)
        self.assertRegex(p.stderr.decode(), 'needs .* MiB .*budget')

    def test_models_load_on_first_use_and_the_least_recent_makes_room(self):
        with Server('--model', 'a=', '--model', 'b=', '--model', 'c=', '--load', 'use', '--memory', '230M') as s:
            self.assertEqual(set(s.cells()), {'front'})
            first = s.complete(model='a')
            self.assertEqual(s.complete(model='b'), first)
            self.assertEqual(set(s.cells()), {'front', 'engine a', 'engine b'})
            self.assertEqual(s.complete(model='c'), first) # a was used longest ago
            self.assertEqual(set(s.cells()), {'front', 'engine b', 'engine c'})
            time.sleep(1.1) # the front tells of use once a second
            self.assertEqual(s.complete(model='b'), first)
            time.sleep(1.1)
            self.assertEqual(s.complete(model='a'), first) # b was loaded first, but c used longest ago
            self.assertEqual(set(s.cells()), {'front', 'engine a', 'engine b'})

    def test_an_idle_model_goes_after_its_time(self):
        with Server('--model', 'a=', '--load', 'use', '--keep-alive', '300ms') as s:
            s.complete(model='a')
            end = time.monotonic() + 10
            while 'engine a' in s.cells():
                self.assertLess(time.monotonic(), end)
                time.sleep(0.05)
            self.assertTrue(s.complete(model='a'))


if __name__ == '__main__':
    unittest.main()
