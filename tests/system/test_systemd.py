"""Started as an operator starts it: by systemd's sockets and messages, from a file, by variables, behind TLS and proxies."""
import contextlib, http.client, json, os, pathlib, re, shutil, signal, socket, ssl, struct, subprocess, time, unittest

from serving import Server, UnixConnection, new_key, ports
from support import ALONE, AS_USER, CLEAN, ROOT, SPARK, Folder, can, is_one_error_line, spark, wait_until


class Manager:
    """What systemd does: holds the sockets, listens to messages, starts the service with both."""

    def __init__(self, folder, sockets, *args, config=None):
        self.path = str(folder / 'notify')
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(self.path)
        self.notify.settimeout(20)
        self.log_file = open(folder / 'log', 'w+b')
        # LISTEN_PID must be the pid of the service: a shell that becomes it
        self.process = subprocess.Popen(['sh', '-c', 'LISTEN_PID=$$ exec "$@"', 'sh', SPARK, 'serve', *map(str, args)], stderr=self.log_file,
                                        stdin=subprocess.DEVNULL, env={**CLEAN, 'NOTIFY_SOCKET': self.path, 'LISTEN_FDS': str(len(sockets))},
                                        pass_fds=[3 + i for i in range(len(sockets))] if sockets else (), preexec_fn=lambda: self.place(sockets))

    @staticmethod
    def place(sockets):
        high = [os.dup2(s.fileno(), 100 + i) for i, s in enumerate(sockets)]
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i, inheritable=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.notify.close()
        self.log_file.close()

    def log(self):
        return pathlib.Path(self.log_file.name).read_text()

    def wait(self, word):
        """The first message that says so; what came before is forgotten."""
        while True:
            try:
                text = self.notify.recv(4096).decode()
            except TimeoutError:
                raise AssertionError(f'no {word}: {self.log()}')
            if word in text.split('\n')[0]:
                return text


def listening(*addresses):
    found = []
    for a in addresses:
        s = socket.socket(socket.AF_UNIX if isinstance(a, str) else socket.AF_INET)
        s.bind(a)
        s.listen(64)
        found.append(s)
    return found


def get(connection, path, **headers):
    connection.request('GET', path, headers=headers)
    r = connection.getresponse()
    data = r.read()
    connection.close()
    return r.status, data


class Systemd(Folder):
    def test_sockets_messages_reload_and_stop(self):
        path = str(self.dir / 's')
        keys = self.dir / 'keys'
        key = new_key(keys, '--name', 'a')
        sockets = listening(path, ('127.0.0.1', 0))
        port = sockets[1].getsockname()[1]
        with Manager(self.dir, sockets, '--keys', keys) as m:
            self.assertIn('STATUS=serving', m.wait('READY=1'))
            auth = {'Authorization': f'Bearer {key}'}
            self.assertEqual(get(UnixConnection(path, 10), '/v1/models', **auth)[0], 200)
            self.assertEqual(get(http.client.HTTPConnection('127.0.0.1', port), '/v1/models', **auth)[0], 200)
            self.assertEqual(get(http.client.HTTPConnection('127.0.0.1', port), '/v1/models')[0], 401)
            m.process.send_signal(signal.SIGHUP)
            reloading = m.wait('RELOADING=1') # systemd compares the time with its own
            stamp = int(re.search(r'MONOTONIC_USEC=(\d+)', reloading)[1])
            self.assertLess(abs(time.monotonic_ns() // 1000 - stamp), 10_000_000)
            m.wait('READY=1')
            m.process.terminate()
            self.assertRegex(m.wait('STOPPING=1'), r'EXTEND_TIMEOUT_USEC=\d+')
            self.assertEqual(m.process.wait(20), 0)
        self.assertTrue(os.path.exists(path), 'the socket is systemd\'s to remove')
        for s in sockets:
            s.close()

    def test_who_comes_while_it_restarts_is_answered_after(self):
        sockets = listening(('127.0.0.1', 0))
        port = sockets[0].getsockname()[1]
        waiting = http.client.HTTPConnection('127.0.0.1', port, timeout=30)
        waiting.request('GET', '/health/live') # before anybody is there
        with Manager(self.dir, sockets, '--no-auth') as m:
            m.wait('READY=1')
            self.assertEqual(waiting.getresponse().status, 200)
        sockets[0].close()

    def test_a_unix_socket_alone_asks_for_no_key_and_makes_none(self):
        path = str(self.dir / 's')
        sockets = listening(path)
        with Manager(self.dir, sockets) as m:
            m.wait('READY=1')
            self.assertEqual(get(UnixConnection(path, 10), '/v1/models')[0], 200)
            self.assertNotIn('sk-spark-', m.log())
        sockets[0].close()

    def test_sockets_of_systemd_obey_the_same_rules(self):
        sockets = listening(('0.0.0.0', 0))
        for args in ([], ['--no-auth']):
            with Manager(self.dir, sockets, *args) as m:
                self.assertEqual(m.process.wait(20), 3, m.log())
                self.assertIn('other machines', m.log())
            os.unlink(self.dir / 'notify')
        sockets[0].close()

    def test_listen_that_was_set_comes_beside_the_sockets(self):
        sockets = listening(('127.0.0.1', 0))
        first = sockets[0].getsockname()[1]
        with Manager(self.dir, sockets, '--no-auth', '--listen', 'tcp:127.0.0.1:0', '--listen', f'tcp:127.0.0.1:{first}') as m:
            m.wait('READY=1')
            found = wait_until(lambda: ports(m.log(), '127.0.0.1'))
            self.assertEqual((len(found), found[0]), (2, first), m.log())
            for p in found:
                self.assertEqual(get(http.client.HTTPConnection('127.0.0.1', p), '/v1/models')[0], 200)
        sockets[0].close()

    def test_a_descriptor_that_does_not_listen_is_refused(self):
        with socket.socket() as s, Manager(self.dir, [s], '--no-auth') as m:
            self.assertEqual(m.process.wait(20), 1)
            self.assertIn('no listening stream socket', m.log())

    @unittest.skipUnless(os.geteuid() == 0, 'needs root')
    def test_a_credential_of_systemd_is_taken_as_a_secret(self):
        keys = self.dir / 'keys'
        new_key(keys)
        for mode, group, code in (0o440, 0, None), (0o440, 12345, 3), (0o444, 0, 3), (0o460, 0, 3):
            os.chown(keys, 0, group)
            os.chmod(keys, mode)
            s = Server('--keys', keys, auth=True, wait=False)
            with s:
                if code is None:
                    s.wait_ready()
                else:
                    self.assertEqual(s.process.wait(20), code)
                    self.assertIn('holds secrets', s.log(), oct(mode))

    @unittest.skipUnless(shutil.which('systemd-analyze'), 'no systemd-analyze')
    def test_the_unit_lets_the_cells_make_every_call_of_theirs(self):
        allowed = set()
        for line in (ROOT / 'packaging/systemd/spark.service.in').read_text().splitlines():
            if line.startswith('SystemCallFilter='):
                words = line.split('=', 1)[1]
                for word in words.lstrip('~').split():
                    names = self.group(word) if word.startswith('@') else {word}
                    allowed = allowed - names if words.startswith('~') else allowed | names
        table = spark('jail', '--table')[1].decode()
        calls = {row.split('|')[1].strip() for row in table.splitlines()[2:] if re.search(r'\| (yes|if) ', row)}
        self.assertGreater(len(calls), 40)
        self.assertEqual(calls - allowed - {'arch_prctl', 'newfstatat', 'epoll_wait', 'poll', 'sysinfo', 'fstat'} - self.group('@default'), set())
        for call in 'seccomp', 'mount', 'pivot_root', 'umount2', 'landlock_restrict_self', 'capset', 'prlimit64', 'unshare', 'pidfd_open', 'memfd_create', 'signalfd4', 'sched_setaffinity', 'sched_setattr':
            self.assertIn(call, allowed)

    def group(self, name):
        out = subprocess.run(['systemd-analyze', 'syscall-filter', name], capture_output=True, text=True, check=True).stdout
        found = set()
        for line in out.splitlines()[1:]:
            word = line.strip()
            if word.startswith('@'):
                found |= self.group(word)
            elif word and not word.startswith('#'):
                found.add(word)
        return found

    @unittest.skipUnless(shutil.which('systemd-analyze'), 'no systemd-analyze')
    def test_the_unit_is_understood_and_closed(self):
        unit = (ROOT / 'packaging/systemd/spark.service.in').read_text().replace('@bindir@/spark', SPARK)
        (self.dir / 'spark.service').write_text(unit)
        shutil.copy(ROOT / 'packaging/systemd/spark.socket', self.dir)
        p = subprocess.run(['systemd-analyze', 'verify', '--man=no', './spark.service', './spark.socket'], cwd=self.dir, capture_output=True, text=True)
        self.assertEqual((p.returncode, [l for l in p.stderr.splitlines() if 'spark' in l]), (0, []), p.stderr)
        out = subprocess.run(['systemd-analyze', 'security', '--offline=yes', './spark.service'], cwd=self.dir, capture_output=True, text=True).stdout
        self.assertLessEqual(float(re.search(r'exposure level for spark.service: ([\d.]+)', out)[1]), 2.5)


class Settings(Folder):
    def test_the_line_to_paste_works(self):
        with Server(auth=True) as s:
            line = re.search(r'try: (curl .*)', s.log())[1]
            out = subprocess.run(['sh', '-c', line], capture_output=True, timeout=20).stdout
            self.assertTrue(json.loads(out)['choices'][0]['text'])

    def test_reloads_and_ends_of_engines_are_counted(self):
        keys = self.dir / 'keys'
        key = new_key(keys, '--metrics')
        with Server('--keys', keys, auth=True) as s:
            s.key = key
            good = keys.read_text()
            for text, result in (good, 'ok'), ('nonsense', 'failed'):
                keys.write_text(text)
                s.signal(signal.SIGHUP)
                s.wait_metric(1, 'spark_reloads_total', result=result)
            s.kill('engine demo')
            s.wait_metric(1, 'spark_cells_restarted_total', cell='engine', model='demo')
            self.assertGreater(s.metric('spark_connections_total'), 0)
            keys.write_text(good)
            s.kill('front')
            self.await_front(s)
            s.wait_metric(1, 'spark_cells_restarted_total', cell='engine', model='demo')
            end = time.monotonic() + 20
            while not all(f'spark_memory_resident_bytes{{cell="{cell}",model="{model}"}}' in s.get('/metrics')[1].decode() for cell, model in (('front', ''), ('engine', 'demo'))):
                self.assertLess(time.monotonic(), end)
                time.sleep(0.1)

    def await_front(self, s):
        end = time.monotonic() + 20
        while True:
            try:
                if s.metric('spark_cells_restarted_total', cell='front', model='') == 1:
                    return
            except (OSError, http.client.HTTPException):
                pass
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)

    def test_a_cell_that_stands_still_is_started_again(self):
        with Server('--watchdog', '1') as s:
            s.hold('engine demo')
            s.wait_metric(1, 'spark_cells_restarted_total', cell='engine', model='demo')
            self.assertIn('engine_silent', s.log())
            self.assertTrue(s.complete())
            s.hold('front')
            self.await_front(s)
            self.assertIn('front_silent', s.log())
            self.assertTrue(s.complete())

    def test_the_example_file_starts_a_service(self):
        text = (ROOT / 'packaging/spark.conf').read_text().replace('/etc/spark', str(self.dir))
        (self.dir / 'spark.conf').write_text(text)
        key = new_key(self.dir / 'keys')
        with Server('--config', self.dir / 'spark.conf', auth=True) as s:
            s.key, s.model = key, 'demo'
            self.assertTrue(s.complete())

    def test_variables_start_a_service(self):
        with Server(env={'SPARK_MODEL': 'x=', 'SPARK_CTX': '256', 'SPARK_PARALLEL': '2'}) as s:
            s.model = 'x'
            self.assertTrue(s.complete())
            self.assertEqual(s.post('/v1/completions', {'model': 'x', 'prompt': 'a ' * 300})[0], 400)

    def test_a_start_that_cannot_succeed_ends_with_the_reason(self):
        for args, why in (['--model', 'm=/nowhere/m.gguf'], 'cannot open'), (['--keys', '/nowhere/keys'], 'cannot open'):
            code, _, err = spark('serve', '--listen', 'tcp:127.0.0.1:0', *args, timeout=20)
            self.assertEqual(code, 1, err)
            self.assertIn(why, err)

    def test_too_few_descriptors_are_refused_with_the_number_that_suffices_before_anything_starts(self):
        limit = lambda n: ('sh', '-c', f'ulimit {n} && exec "$@"', 'sh')
        many = lambda file: [a for i in range(30) for a in ('--model', f'm{i}={file}')] + ['--load', 'use']
        for n, args, need in (100, [], 512), (511, [], 512), (100, ['--max-connections', '10'], 266), (600, many(''), 665), \
                (725, many('m.gguf'), 726), (800, [*many('m-00001-of-00003.gguf'), '--public-prefix', 'p'], 909): # each file twice, and those of one that starts
            p = subprocess.run([*limit(f'-n {n}'), SPARK, 'serve', '--listen', 'tcp:127.0.0.1:0', '--no-auth', *args], capture_output=True, text=True, timeout=20)
            self.assertEqual((p.returncode, p.stdout), (3, ''), p.stderr)
            self.assertTrue(is_one_error_line(p.stderr), p.stderr)
            self.assertRegex(p.stderr, rf'{need} descriptors .* {n}; .*ulimit -Hn.*LimitNOFILE.* {need} ')
        for ulimit, args in ('-n 512', []), ('-n 266', ['--max-connections', '10']), ('-S -n 40', []): # a soft limit is no limit
            with Server(*args, wrapper=limit(ulimit)) as s:
                self.assertTrue(s.complete(model='demo'))
                self.assertEqual(s.close(), 0, s)

    @unittest.skipUnless(os.geteuid() == 0 and can(*ALONE), 'needs root for a network of its own')
    def test_without_an_address_it_listens_on_its_own_socket_and_loopback_and_prints_a_key_once(self):
        runtime = self.dir / 'run'
        runtime.mkdir()
        os.chown(runtime, 12345, 12345)
        with open(self.dir / 'log', 'w+b') as log:
            p = subprocess.Popen([*ALONE, *AS_USER, self.binary(), 'serve'], stderr=log, stdin=subprocess.DEVNULL, env={**CLEAN, 'XDG_RUNTIME_DIR': str(runtime)})
            try:
                path, text = runtime / 'spark.sock', lambda: (self.dir / 'log').read_text()
                wait_until(lambda: path.exists() and get(UnixConnection(str(path), 10), '/health/ready')[0] == 200, why=text)
                self.assertEqual((path.stat().st_mode & 0o777, path.stat().st_uid), (0o600, 12345))
                self.assertEqual(get(UnixConnection(str(path), 10), '/v1/models')[0], 200)
                listen = re.findall(r'(?m)^ *\d+: ([0-9A-F]+:[0-9A-F]+) \S+ 0A', pathlib.Path(f'/proc/{p.pid}/net/tcp').read_text())
                self.assertEqual(listen, ['0100007F:1F90']) # 127.0.0.1:8080 and nothing else
                self.assertRegex(text(), r'(?m)try: curl .*http://127\.0\.0\.1:8080/')
                self.assertEqual(len(set(re.findall(r'sk-spark-[\w-]+', text()))), 1)
                p.terminate()
                self.assertEqual(p.wait(20), 0)
            finally:
                p.kill()
                p.wait()

    def test_several_listeners_of_all_kinds(self):
        path = str(self.dir / 's')
        with Server('--listen', f'unix:{path}', '--listen', 'tcp:127.0.0.2:0', '--listen', 'tcp:[::1]:0') as s:
            found = [(host, p) for host in ('127.0.0.1', '127.0.0.2', '::1') for p in ports(s.log(), f'[{host}]' if ':' in host else host)]
            self.assertEqual([host for host, _ in found], ['127.0.0.1', '127.0.0.2', '::1'], s.log())
            for c in UnixConnection(path, 10), *(http.client.HTTPConnection(*address) for address in found):
                self.assertEqual(get(c, '/v1/models', Host='localhost')[0], 200)
            self.assertTrue(s.complete(model='demo'))


@unittest.skipUnless(shutil.which('openssl'), 'no openssl program')
class Tls(Folder):
    def setUp(self):
        super().setUp()
        run = lambda *a: subprocess.run(['openssl', *map(str, a)], cwd=self.dir, check=True, capture_output=True)
        subject = ['-subj', '/CN=spark.example', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
        curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
        run('req', '-x509', *curve, '-keyout', 'key.pem', '-out', 'cert.pem', '-days', 2, *subject)
        run('req', '-x509', *curve, '-keyout', 'ca.key', '-out', 'ca.pem', '-days', 2, '-subj', '/CN=wards')
        run('req', *curve, '-keyout', 'client.key', '-out', 'client.csr', '-subj', '/CN=ward-7')
        run('x509', '-req', '-in', 'client.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-out', 'client.pem', '-days', 2)
        self.keys = self.dir / 'keys'
        self.key = new_key(self.keys)
        self.options = ['--keys', self.keys, '--tls-cert', self.dir / 'cert.pem', '--tls-key', self.dir / 'key.pem']

    def start(self, *more):
        s = Server(*self.options, *more, auth=True, wait=False)
        self.addCleanup(s.__exit__)
        s.wait_log('listening on')
        return s

    def ask(self, s, client=None, cert='cert.pem'):
        return self.answer(s, '/v1/models', client, cert)[0]

    def get(self, s, path):
        return self.answer(s, path)[1].decode()

    def answer(self, s, path, client=None, cert='cert.pem'):
        trust = ssl.create_default_context(cafile=self.dir / cert)
        if client:
            trust.load_cert_chain(self.dir / f'{client}.pem', self.dir / f'{client}.key')
        return get(http.client.HTTPSConnection('localhost', s.port, context=trust, timeout=10), path, Authorization=f'Bearer {self.key}')

    def test_tls_starts_and_plain_http_does_not_pass(self):
        self.key = new_key(self.keys, '--metrics')
        s = self.start()
        self.assertEqual(self.ask(s), 200)
        for n in 1, 2:
            with self.assertRaises((OSError, http.client.HTTPException)):
                get(http.client.HTTPConnection('127.0.0.1', s.port, timeout=5), '/health')
            s.wait_log(r'"event":"refused",.*"reason":"tls","why":"http request"')
            self.assertIn(f'\nspark_refused_total{{reason="tls"}} {n}\n', self.get(s, '/metrics'))
        left = float(re.search(r'^spark_tls_certificate_expiry_seconds (\d+)$', self.get(s, '/metrics'), re.M)[1]) - time.time()
        self.assertTrue(86400 < left <= 2 * 86400, left)

    def shown(self, s):
        return ssl.get_server_certificate(('127.0.0.1', s.port), timeout=10)

    def test_a_renewed_certificate_is_taken_over_without_a_restart_and_a_wrong_one_is_not(self):
        s = self.start()
        old = (self.dir / 'cert.pem').read_text()
        self.assertEqual(self.shown(s), old)
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'key.pem', '-out', 'cert.pem', '-days', '2',
                        '-subj', '/CN=renewed', '-addext', 'subjectAltName=DNS:localhost'], cwd=self.dir, check=True, capture_output=True)
        new = (self.dir / 'cert.pem').read_text()
        s.signal(signal.SIGHUP)
        end = time.monotonic() + 20
        while self.shown(s) != new:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        self.assertEqual(self.ask(s), 200)
        for spoil in (lambda: (self.dir / 'cert.pem').write_text('nonsense')), (lambda: (self.dir / 'cert.pem').write_text(old)), (self.dir / 'cert.pem').unlink:
            spoil()
            told = s.log().count('reload_tls_failed')
            s.signal(signal.SIGHUP)
            while s.log().count('reload_tls_failed') == told:
                self.assertLess(time.monotonic(), end)
                time.sleep(0.05)
            self.assertEqual(self.shown(s), new)

    def test_a_front_that_ends_is_followed_by_one_that_serves_whatever_became_of_the_files(self):
        s = self.start()
        shown, n = self.shown(s), 0
        (self.dir / 'shown.pem').write_text(shown)
        cert, key, keys = (self.dir / name for name in ('cert.pem', 'key.pem', 'keys'))
        for file, spoil in (cert, lambda: cert.write_text('nonsense')), (key, key.unlink), (keys, lambda: keys.write_text('nonsense')), (keys, lambda: keys.chmod(0o644)):
            good, mode = file.read_bytes(), file.stat().st_mode
            spoil()
            s.kill('front')
            n += 1
            wait_until(lambda: s.log().count('"event":"kept"') == n, why=s.log)
            self.assertIn(f'"file":"{file}"', s.log().rpartition('"event":"kept"')[2])
            wait_until(lambda: self.ask(s, cert='shown.pem') == 200, why=s.log)
            self.assertEqual(self.shown(s), shown)
            file.unlink(missing_ok=True)
            file.write_bytes(good)
            file.chmod(mode)
        new = new_key(keys) # what the next front does not take over by itself, a reload does
        s.kill('front')
        wait_until(lambda: self.ask(s, cert='shown.pem') == 200, why=s.log)
        self.key = new
        self.assertEqual(self.ask(s, cert='shown.pem'), 401)
        s.signal(signal.SIGHUP)
        wait_until(lambda: self.ask(s, cert='shown.pem') == 200, why=s.log)

    def test_the_line_to_paste_brings_the_certificate_that_is_asked_for(self):
        for more, env in ([], {}), (['--tls-client-ca', self.dir / 'ca.pem'], {'CERT': self.dir / 'client.pem', 'CERT_KEY': self.dir / 'client.key'}):
            s = self.start(*more)
            line = s.wait_log(r'try: (curl .*)')[1]
            self.assertEqual(bool(env), str(self.dir / 'ca.pem') in s.log())
            out = subprocess.run(['sh', '-c', line], capture_output=True, text=True, timeout=20, env={**os.environ, 'KEY': self.key, **env})
            self.assertTrue(json.loads(out.stdout)['choices'][0]['text'], out.stderr)

    def test_clients_without_a_certificate_of_the_ca_stay_out(self):
        s = self.start('--tls-client-ca', self.dir / 'ca.pem')
        self.assertEqual(self.ask(s, 'client'), 200)
        with self.assertRaises((OSError, http.client.HTTPException)):
            self.ask(s)

    def test_a_private_key_that_others_may_read_is_refused(self):
        os.chmod(self.dir / 'key.pem', 0o644)
        code, _, err = spark('serve', *self.options, '--listen', 'tcp:127.0.0.1:0')
        self.assertEqual(code, 3, err)
        self.assertIn('chmod 600', err)

    def test_a_certificate_that_does_not_fit_the_key_ends_the_start(self):
        shutil.copy(self.dir / 'ca.pem', self.dir / 'cert.pem')
        code, _, err = spark('serve', *self.options, '--listen', 'tcp:127.0.0.1:0')
        self.assertEqual(code, 1, err)

    def test_an_address_of_the_network_by_tls_or_aloud_without(self):
        for more in self.options[2:], ['--tls', 'off']:
            p = subprocess.Popen([SPARK, 'serve', '--keys', self.keys, '--listen', 'tcp:0.0.0.0:0', *map(str, more)], stderr=subprocess.PIPE, env=CLEAN)
            try:
                for line in p.stderr:
                    if b'listening on' in line:
                        break
                self.assertIsNone(p.poll())
            finally:
                p.kill()
                p.wait()
                p.stderr.close()


class Proxy(Folder):
    HEAD = b'\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c' + bytes([203, 0, 113, 7, 127, 0, 0, 1]) + struct.pack('>HH', 40000, 80)
    ASK = b'GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'

    def say(self, s, data):
        with socket.create_connection(('127.0.0.1', s.port), timeout=10) as k:
            k.sendall(data)
            with contextlib.suppress(ConnectionResetError):
                return k.makefile('rb').read()
            return b''

    def test_a_listed_proxy_tells_who_asks(self):
        keys = self.dir / 'keys'
        new_key(keys)
        s = Server('--keys', keys, '--proxy', '127.0.0.1', auth=True, wait=False)
        with s:
            self.assertIn(b' 401 ', self.say(s, self.HEAD + self.ASK).splitlines()[0])
            s.wait_log(r'203\.0\.113\.7')
            self.assertNotIn(b' 401 ', self.say(s, self.ASK), 'whoever says nothing of a client is no proxy')

    def test_no_line_is_shown_to_paste_where_curl_cannot_connect(self):
        s = Server('--proxy', '127.0.0.1', wait=False)
        with s:
            s.wait_log('no line to try: .*PROXY protocol')
            self.assertNotIn('try: curl', s.log())
        s = Server('--proxy', '127.0.0.1', '--listen', 'tcp:[::1]:0', wait=False) # the first is the proxy's, the second is not
        with s:
            line = s.wait_log(r'try: (curl .*)')[1]
            out = subprocess.run(['sh', '-c', line], capture_output=True, timeout=20).stdout
            self.assertTrue(json.loads(out)['choices'][0]['text'])

    def test_nobody_else_is_believed(self):
        with Server('--proxy', '10.0.0.0/8') as s: # loopback is in no listed range: it speaks for itself
            self.assertIn(b' 400 ', self.say(s, self.HEAD + self.ASK).splitlines()[0])
            self.assertIn(b' 200 ', self.say(s, self.ASK).splitlines()[0])


if __name__ == '__main__':
    unittest.main()
