"""The page of `spark serve --page` in a headless browser, and GET /spark/live, which feeds it."""
import http.server, json, re, subprocess, tempfile, threading, time, unittest

from browser import Browser, ENTER, ESCAPE, needs_browser
from serving import Server, chat_model, in_parallel, new_key
from support import Folder, spark, spark_json, wait_until

IDLE = 'return document.getElementById("stop").hidden && !document.getElementById("main").hidden'
LAST = 'return [...document.querySelectorAll(".turn.its .text")].at(-1)?.textContent || ""'


def minted_key(server):
    return server.wait_log(r'shown once: (\S+)')[1]


class Live(Folder):
    def settled(self, s):
        """How things stand, if nothing runs any more."""
        now = json.loads(s.get('/spark/live')[1])
        m = now['models'][0]
        return now if m['running'] == m['pages']['used'] == 0 and m['tokens_per_s'] > 0 and m['itl_ms']['n'] == 39 else None

    def test_shows_load_latency_memory_and_jail(self):
        with Server('--memory', '1G') as s:
            s.complete(max_tokens=40)
            now = wait_until(lambda: self.settled(s)) # the engine tells how things stand once the work has ended
            m = now['models'][0]
            self.assertEqual((now['ready'], now['draining'], m['name'], m['state'], m['running'], m['waiting']), (True, False, 'demo', 'ready', 0, 0))
            self.assertEqual((m['ttft_ms']['n'], m['itl_ms']['n']), (1, 39))
            for q in (m['ttft_ms'], m['itl_ms']):
                self.assertTrue(0 < q['p50'] <= q['p95'] <= q['p99'] < 60000, q)
            self.assertEqual(m['memory']['planned'], sum(m['memory'][part] for part in ('weights', 'kv', 'rest')))
            front = spark_json('plan', '--json', '--memory', '1G')['front']['planned']
            self.assertEqual((now['memory']['budget'], now['memory']['planned']), (1 << 30, front + m['memory']['planned']))
            end = time.monotonic() + 10
            while not (resident := json.loads(s.get('/spark/live')[1])['memory']['resident']):
                self.assertLess(time.monotonic(), end)
                time.sleep(0.1)
            self.assertGreater(resident, 1 << 20)
            self.assertEqual(m['pages']['total'], sum(m['pages'][kind] for kind in ('used', 'cached', 'free')))
            self.assertEqual(m['pages']['used'], 0)
            self.assertGreater(m['tokens_per_s'], 0)
            self.assertEqual(now['jail']['level'], 'strict')
            self.assertTrue(all(means['holds'] for means in now['jail']['means'] if means['required']))
            self.assertIn('landlock', [means['name'] for means in now['jail']['means']])

    def test_pages_are_known_before_the_first_request(self):
        with Server() as s:
            end = time.monotonic() + 5
            while not (pages := json.loads(s.get('/spark/live')[1])['models'][0]['pages'])['total']:
                self.assertLess(time.monotonic(), end)
            self.assertEqual(pages['free'], pages['total'])

    def test_the_minute_is_a_history_in_steps_of_two_seconds(self):
        began = time.monotonic()
        with Server() as s:
            for _ in range(3):
                s.complete(max_tokens=40)
                time.sleep(1.5)
            h = json.loads(s.get('/spark/live')[1])['models'][0]['history']
            self.assertEqual(h['step_s'], 2)
            self.assertTrue(2 <= len(h['tokens_per_s']) <= (time.monotonic() - began) / 2 + 1, h)
            self.assertGreater(max(h['tokens_per_s']), 2)

    def test_a_lower_level_of_the_jail_says_what_it_does_without(self):
        with Server('--jail', 'standard') as s:
            jail = json.loads(s.get('/spark/live')[1])['jail']
            means = {m['name']: m for m in jail['means']}
            self.assertEqual(jail['level'], 'standard')
            self.assertTrue(means['seccomp']['holds'] and means['landlock']['holds'])
            self.assertFalse(means['network namespace']['holds'] or means['network namespace']['required'])
        with Server('--jail', 'off') as s:
            jail = json.loads(s.get('/spark/live')[1])['jail']
            self.assertEqual((jail['level'], [m['name'] for m in jail['means'] if m['holds']]), ('off', []))

    def test_wants_a_key_with_the_right_metrics(self):
        keys = self.dir / 'keys'
        plain = new_key(keys, '--name', 'plain')
        with Server('--keys', keys, auth=True) as s:
            self.assertEqual(s.get('/spark/live')[0], 401)
            s.key = plain
            status, body = s.get('/spark/live')
            self.assertEqual((status, json.loads(body)['error']['type']), (403, 'permission_error'))

    def test_models_that_are_not_loaded_are_shown_as_such(self):
        with Server('--model', 'a=', '--load', 'use') as s:
            m = json.loads(s.get('/spark/live')[1])['models'][0]
            self.assertEqual((m['state'], m['memory'], m['pages']), ('absent', None, None))
            status, shown = s.post('/api/show', {'model': 'a'})
            self.assertEqual((status, shown['model_info']), (200, {'general.architecture': None}))


class Root(unittest.TestCase):
    def test_is_a_line_of_text_unless_the_page_is_asked_for(self):
        with Server() as s:
            status, headers, body = s.ask('GET', '/')
            self.assertEqual((status, headers['Content-Type'], body), (200, 'text/plain; charset=utf-8', b'Ollama is running'))
            for accept in 'text/html,application/xhtml+xml,*/*;q=0.8', 'text/html': # a browser: that line first, and what to do
                status, headers, body = s.ask('GET', '/', headers={'Accept': accept})
                self.assertEqual((status, headers['Content-Type'], body.split(b'\n')[0]), (200, 'text/plain; charset=utf-8', b'Ollama is running'))
                self.assertIn(b'--page', body)
            self.assertEqual(s.ask('GET', '/', headers={'Accept': '*/*'})[2], b'Ollama is running')

    def test_is_the_page_with_a_policy_that_allows_nothing_else(self):
        with Server('--page') as s:
            status, headers, body = s.ask('GET', '/')
            self.assertEqual((status, headers['Content-Type']), (200, 'text/html; charset=utf-8'))
            policy = dict(d.strip().split(' ', 1) for d in headers['Content-Security-Policy'].split(';'))
            hashes = [policy.pop(d) for d in ('script-src', 'style-src')]
            for h in hashes:
                self.assertRegex(h, r"^'sha256-[A-Za-z0-9+/]{43}='$")
            self.assertEqual(policy, {'default-src': "'none'", 'connect-src': "'self'", 'img-src': 'data:', 'frame-ancestors': "'none'", 'base-uri': "'none'",
                                      'form-action': "'none'", 'require-trusted-types-for': "'script'", 'trusted-types': "'none'"})
            self.assertEqual((headers['X-Frame-Options'], headers['Referrer-Policy'], headers['Set-Cookie']), ('DENY', 'no-referrer', None))
            self.assertNotRegex(body.decode(), r'(?i)innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|localStorage|document\.cookie')
            self.assertEqual(s.ask('HEAD', '/')[0], 200)


@needs_browser
class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tmp = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.tmp.cleanup)
        cls.server = Server('--page', '--model', 'demo=', '--model', f'chat={chat_model(cls.tmp.name)}', '--model', 'later=', '--model-set', 'later.load=use').__enter__()
        cls.addClassCleanup(cls.server.__exit__)
        cls.url = f'http://127.0.0.1:{cls.server.port}/'
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)

    def setUp(self):
        self.open()

    def open(self):
        b = self.browser
        b.size(1360, 900)
        b.scheme('light')
        b.open('about:blank')
        b.log(), b.requests()
        b.open(self.url)
        b.wait('the page is open', 'return document.getElementById("empty").innerText.includes("continues the text")')

    def tearDown(self):
        self.assertEqual(self.browser.log(), []) # no violation of its policy, no error, no warning

    def choose(self, name, hint):
        self.browser.choose('#model', name)
        self.browser.wait(f'{name} is chosen', 'return document.getElementById("empty").innerText.includes(arguments[0])', hint)

    def chat(self):
        self.choose('chat', 'Ask it')

    def set(self, **values):
        if self.browser.js('return document.getElementById("settings").hidden'):
            self.browser.click('#more')
        for name, value in values.items():
            self.browser.set('#' + name, str(value))

    def say(self, text, wait=True):
        b = self.browser
        n = b.js('return document.querySelectorAll(".turn.its").length')
        b.type('#prompt', text)
        b.click('#send')
        b.wait('it was asked', 'return document.querySelectorAll(".turn.its").length > arguments[0]', n)
        if wait:
            b.wait('the answer is whole', IDLE, seconds=60)
        return b.js(LAST)

    def after(self, label):
        """Presses a button below the last answer."""
        self.browser.js('[...[...document.querySelectorAll(".turn.its")].at(-1).querySelectorAll("button")].find(b => b.textContent.replace(/ \\d+$/, "") === arguments[0]).click()', label)

    # ---- Alone ----

    def test_asks_nobody_but_its_server(self):
        self.say('Once upon a time')
        asked = self.browser.requests()
        self.assertIn(self.url, asked)
        self.assertEqual([u for u in asked if not u.startswith((self.url, 'data:'))], [])
        self.assertEqual({u.removeprefix(self.url) for u in asked if u.startswith(self.url)} - {'', 'v1/models', 'api/show', 'spark/live', 'v1/completions'}, set())
        self.assertEqual(self.browser.js('return [document.cookie, localStorage.length, sessionStorage.length]'), ['', 0, 0])

    def test_strings_cannot_become_markup_or_script(self):
        for attempt in ('document.body.innerHTML = "<b>x</b>"', 'document.createElement("script").textContent = "1"', 'setTimeout("1")',
                        'document.body.insertAdjacentHTML("beforeend", "x")'):
            self.assertEqual(self.browser.js(f'try {{ {attempt}; return "done" }} catch (e) {{ return e.name }}'), 'TypeError', attempt)
        self.assertIn(self.browser.js('const s = document.createElement("style"); s.append("body{color:red}"); document.head.append(s); return getComputedStyle(document.body).color'),
                      ('rgb(37, 34, 29)',))
        self.assertGreater(len(self.browser.log()), 0) # it tells of each, so the log is worth looking at

    # ---- Answers ----

    def test_a_model_without_template_continues_text(self):
        self.set(seed=7, temperature=0.7, top_p=0.9, max_tokens=30)
        text = self.say('Once upon a time')
        self.assertEqual(text, 'Once upon a time' + self.server.complete(max_tokens=30, temperature=0.7, top_p=0.9))
        self.assertFalse(self.browser.js('return document.getElementById("system-label").getClientRects().length'))

    def test_parameters_reach_a_chat_and_it_goes_on(self):
        self.chat()
        self.set(seed=11, temperature=1.5, top_p=0.8, max_tokens=12, system='Be brief.')
        messages = [{'role': 'system', 'content': 'Be brief.'}]
        for question in ('Hello <b>you</b>', 'And & again?'):
            messages.append({'role': 'user', 'content': question})
            status, data = self.server.post('/v1/chat/completions', {'model': 'chat', 'messages': messages, 'seed': 11, 'temperature': 1.5, 'top_p': 0.8, 'max_tokens': 12})
            self.assertEqual(status, 200, data)
            messages.append(data['choices'][0]['message'])
            self.assertEqual(self.say(question), messages[-1]['content'])

    def test_every_answer_can_be_had_again(self):
        self.set(max_tokens=20)
        first = self.say('There was a')
        self.after('Seed')
        self.assertEqual(self.say('There was a'), first)
        self.set(seed='')
        self.assertNotEqual(self.say('There was a'), first)

    def test_the_line_for_a_shell_gives_the_same_text(self):
        self.browser.cdp('Browser.grantPermissions', permissions=['clipboardReadWrite', 'clipboardSanitizedWrite'])
        self.set(max_tokens=16)
        prompt = "It's \"quoted\" `id` $HOME \\ and"
        text = self.say(prompt)
        self.after('Copy as curl')
        self.browser.wait('it is copied', 'return document.getElementById("note").textContent === "Copied."')
        line = self.browser.promise('navigator.clipboard.readText()')
        p = subprocess.run(['sh', '-c', line], capture_output=True, timeout=60)
        self.assertEqual(prompt + json.loads(p.stdout)['choices'][0]['text'], text, line)

    def test_copies_an_answer(self):
        b = self.browser
        b.cdp('Browser.grantPermissions', permissions=['clipboardReadWrite', 'clipboardSanitizedWrite'])
        self.set(max_tokens=16, seed=3)
        answer = self.say('Once upon a time').removeprefix('Once upon a time')
        for how in ('', 'Object.defineProperty(navigator, "clipboard", {value: undefined, configurable: true})'): # as over plain HTTP from elsewhere
            b.promise('navigator.clipboard.writeText("before")')
            b.js(how)
            self.after('Copy')
            b.js('delete navigator.clipboard')
            b.wait('it is copied', 'return document.getElementById("note").textContent === "Copied."')
            self.assertEqual(b.promise('navigator.clipboard.readText()'), answer)
            b.js('document.getElementById("note").textContent = ""')

    def test_streams_and_stops(self):
        b, s = self.browser, self.server
        self.chat()
        for stop in (lambda: b.click('#stop'), lambda: b.type('#prompt', ESCAPE)):
            self.set(max_tokens=6000)
            self.say('Tell me everything.', wait=False)
            before = b.wait('text comes', LAST)
            b.wait('more text comes', LAST.replace(' || ""', '.length > arguments[0]'), len(before))
            s.wait_metric(1, 'spark_requests_running', model='chat', seconds=5)
            stop()
            s.wait_metric(0, 'spark_requests_running', model='chat', seconds=5)
            b.wait('it is idle', IDLE)
            self.assertIn('stopped', b.js('return [...document.querySelectorAll(".facts")].at(-1).textContent'))
        self.assertTrue(b.js('const k = document.querySelector("#talk"); return k.scrollHeight - k.scrollTop - k.clientHeight < 80')) # it followed the text

    def test_leaving_the_chat_stops_the_answer(self):
        self.chat()
        self.set(max_tokens=6000)
        self.say('Tell me everything.', wait=False)
        self.browser.wait('text comes', LAST)
        self.browser.click('#fresh')
        self.server.wait_metric(0, 'spark_requests_running', model='chat', seconds=5)
        self.browser.wait('it is idle', IDLE)
        self.assertEqual(self.browser.js('return [document.querySelectorAll(".turn").length, document.getElementById("empty").hidden, talk.length]'), [0, False, 0])

    def test_a_model_that_loads_on_use_is_loaded_by_the_first_message(self):
        self.choose('later', 'first request')
        self.set(max_tokens=12, seed=5)
        self.assertEqual(self.say('Once upon a time'), 'Once upon a time' + self.server.complete(model='later', max_tokens=12, seed=5))

    def test_a_refusal_is_shown_and_the_text_comes_back(self):
        self.set(max_tokens=20)
        self.browser.js('document.getElementById("prompt").value = arguments[0]', 'word ' * 3000)
        self.browser.click('#send')
        self.browser.wait('the error is shown', 'return document.querySelector(".turn .error")?.textContent.includes("context")')
        self.assertEqual(self.browser.js('return document.getElementById("prompt").value.length'), 15000)
        log = self.browser.log()
        self.assertTrue(all('400' in entry['message'] for entry in log), log)

    def test_a_wrong_parameter_is_told_before_it_is_sent(self):
        self.set(top_p=7)
        self.browser.type('#prompt', 'Hello' + ENTER)
        self.assertEqual(self.browser.js('return [document.querySelectorAll(".turn").length, document.activeElement.id]'), [0, 'top_p'])

    def test_enter_sends_and_shift_enter_does_not(self):
        b = self.browser
        self.set(max_tokens=4)
        b.type('#prompt', 'One\ue008' + ENTER + '\ue000two' + ENTER)
        b.wait('the answer is whole', 'return document.querySelector(".facts") && ' + IDLE.removeprefix('return '))
        self.assertTrue(b.js(LAST).startswith('One\ntwo'))

    # ---- The live view ----

    def test_the_live_view_moves(self):
        b, s = self.browser, self.server
        stop = threading.Event()

        def work():
            while not stop.is_set():
                in_parallel(3, lambda i: s.complete(model='chat', prompt='word word', max_tokens=150, ignore_eos=True))
        thread = threading.Thread(target=work)
        thread.start()
        try:
            b.wait('requests run', 'return Number(document.getElementById("running").textContent) >= 1')
            b.wait('tokens come', 'return parseFloat(document.getElementById("speed").textContent) > 0')
            b.wait('percentiles are known', 'return [...document.querySelectorAll("[aria-label=chat] td")].length === 6 && '
                   '[...document.querySelectorAll("[aria-label=chat] td")].every(td => /^[\\d.]+ m?s$/.test(td.textContent))')
            b.wait('the chart has a line', 'return document.querySelector("[aria-label=chat] .chart path")')
            b.wait('pages are in use', 'return /used [1-9]/.test(document.querySelector("[aria-label=chat]").innerText)')
        finally:
            stop.set()
            thread.join()
        b.wait('it comes to rest', 'return document.getElementById("running").textContent === "0"')
        text = b.text('#live')
        for part in ('Memory', 'weights', 'KV pages', 'strict', 'seccomp', 'landlock'):
            self.assertIn(part, text)
        self.assertEqual(b.text('#state'), 'ready, jail strict')

    def test_nobody_is_asked_while_the_live_view_is_hidden(self):
        b = self.browser
        b.size(700, 800)
        time.sleep(2.5)
        b.requests()
        time.sleep(4.5)
        self.assertEqual(b.requests(), [])
        b.click('#view-live')
        b.wait('it is shown', 'return document.getElementById("running").getClientRects().length')
        time.sleep(2.5)
        self.assertIn(self.url + 'spark/live', b.requests())

    # ---- For everybody ----

    def test_fits_a_narrow_screen(self):
        b = self.browser
        self.set(max_tokens=60)
        self.say('Averyveryverylongwordwithoutanybreakthatgoesonandonandonandonandon')
        for width in (360, 700, 1000):
            b.size(width, 740)
            for view in ('chat', 'live') if width < 960 else ('chat',):
                if width < 960:
                    b.click('#view-' + view)
                wide = b.js('return [...document.querySelectorAll("body, body *")].filter(e => e.getClientRects().length && !e.closest("svg, .unseen") && '
                            '(e.getBoundingClientRect().right > innerWidth + .5 || e.getBoundingClientRect().left < -.5)).map(e => e.tagName + "." + e.className)')
                self.assertEqual((wide, b.js('return document.documentElement.scrollWidth <= innerWidth')), ([], True), (width, view))

    def test_every_control_has_a_name_and_can_be_reached_by_keys(self):
        b = self.browser
        self.set(max_tokens=4)
        self.say('Hello')
        nameless = b.js('return [...document.querySelectorAll("input, select, textarea")].filter(e => !e.labels.length || !e.labels[0].textContent.trim()).map(e => e.id)')
        nameless += b.js('return [...document.querySelectorAll("button")].filter(e => !e.textContent.trim()).map(e => e.id)')
        self.assertEqual(nameless, [])
        b.js('document.activeElement.blur()')
        wanted, seen = {'model', 'more', 'fresh', 'temperature', 'top_p', 'max_tokens', 'seed', 'talk', 'prompt', 'send'}, set()
        for _ in range(30):
            b.cdp('Input.dispatchKeyEvent', type='keyDown', key='Tab', code='Tab', windowsVirtualKeyCode=9)
            seen.add(b.js('return document.activeElement.id'))
        self.assertEqual(wanted - seen, set())

    def test_text_has_contrast_in_both_schemes(self):
        b = self.browser
        self.set(max_tokens=8)
        self.say('Hello')
        b.wait('the live view is there', 'return document.querySelector(".means .why, .means li")')
        for scheme in ('light', 'dark'):
            b.scheme(scheme)
            self.assertEqual(b.js(CONTRAST), [], scheme)


CONTRAST = '''
const rgb = c => c.match(/[\\d.]+/g).map(Number);
const light = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
const under = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
const poor = [];
for (const e of document.querySelectorAll('body *')) {
  if (!e.getClientRects().length || e.closest('script, svg, .unseen, :disabled') || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
  const a = light(rgb(getComputedStyle(e).color)), b = light(under(e)), ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) poor.push(`${e.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
}
return poor;
'''


@needs_browser
class Door(Folder):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)

    def setUp(self):
        super().setUp()
        self.browser.open('about:blank')
        self.browser.log()

    def enter(self, key, tick=False):
        b = self.browser
        b.wait('a key is asked for', 'return document.getElementById("key").getClientRects().length')
        b.set('#key', key)
        if tick:
            b.click('#remember')
        b.type('#key', ENTER)

    def opened(self):
        self.browser.wait('the page is open', 'return !document.getElementById("main").hidden && document.getElementById("empty").innerText.includes("continues")')

    def stored(self):
        return self.browser.js('return [document.cookie, localStorage.length, sessionStorage.length]')

    def test_asks_for_a_key_and_keeps_it_only_if_told(self):
        with Server('--page', auth=True) as s:
            b, key = self.browser, minted_key(s)
            url = f'http://127.0.0.1:{s.port}/'
            b.open(url)
            self.assertEqual(b.log(), []) # nothing was tried without a key
            for wrong, says in (('sk-spark-nonsense', 'This API key is not valid.'), ('schlüssel', 'characters')):
                self.enter(wrong)
                b.wait('the error is shown', 'return document.getElementById("door-error").innerText.includes(arguments[0])', says)
                self.assertEqual(b.text('#main'), '')
            b.log()
            self.enter(key)
            self.opened()
            self.assertEqual(self.stored(), ['', 0, 0])
            self.assertNotIn(key, b.js('return document.documentElement.outerHTML + document.getElementById("key").value'))
            b.open(url)
            self.enter(key, tick=True)
            self.opened()
            self.assertEqual(self.stored(), ['', 0, 1])
            b.open(url) # the same tab: no question
            self.opened()
            b.click('#leave')
            b.wait('a key is asked for', 'return document.getElementById("key").getClientRects().length')
            self.assertEqual(self.stored(), ['', 0, 0])
            self.assertEqual(b.log(), [])
            b.size(360, 640)
            self.assertTrue(b.js('return document.documentElement.scrollWidth <= innerWidth'))
            b.size(1360, 900)

    def test_a_key_without_metrics_may_chat(self):
        keys = self.dir / 'keys'
        key = new_key(keys, '--name', 'plain')
        with Server('--page', '--keys', keys, auth=True) as s:
            b = self.browser
            b.open(f'http://127.0.0.1:{s.port}/')
            self.enter(key)
            self.opened()
            b.wait('the live view says why', 'return document.getElementById("live-error").innerText.includes("metrics")')
            b.requests()
            time.sleep(5)
            self.assertEqual(b.requests(), []) # and does not ask again
            b.type('#prompt', 'Once upon a time' + ENTER)
            b.wait('the answer is whole', 'return document.querySelector(".facts") && document.getElementById("stop").hidden')
            self.assertGreater(len(b.js(LAST)), 20)

    def test_a_key_that_is_revoked_leads_back_to_the_door(self):
        keys = self.dir / 'keys'
        key = new_key(keys, '--name', 'short')
        with Server('--page', '--keys', keys, auth=True) as s:
            b = self.browser
            b.open(f'http://127.0.0.1:{s.port}/')
            self.enter(key)
            self.opened()
            self.assertEqual(spark('key', 'revoke', '--keys', keys, 'short')[0], 0)
            s.signal(1)
            s.key, end = key, time.monotonic() + 10
            while s.get('/v1/models')[0] != 401:
                self.assertLess(time.monotonic(), end)
                time.sleep(0.05)
            b.type('#prompt', 'Hello' + ENTER)
            b.wait('the door says why', 'return document.getElementById("door-error").innerText.includes("revoked")')


EVIL = '<img src=x onerror="window.hit=1"><script>window.hit=1</script><svg onload="window.hit=1"></svg>{{7*7}}</textarea></style><b>bold</b> &amp; \u202e'


class Stub(http.server.BaseHTTPRequestHandler):
    """The page of a real server, in front of one that answers every question with markup."""
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def reply(self, body, kind='application/json', status=200, headers=()):
        self.send_response(status)
        for name, value in (('Content-Type', kind), ('Content-Length', str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == '/':
            _, headers, body = self.server.real.ask('GET', '/')
            return self.reply(body, headers['Content-Type'], headers=[('Content-Security-Policy', headers['Content-Security-Policy'])])
        if self.path == '/v1/models':
            return self.reply(json.dumps({'data': [{'id': EVIL}]}).encode())
        now = json.loads(self.server.real.get('/spark/live')[1])
        now['version'] = EVIL
        now['models'] += [{**now['models'][0], 'name': EVIL}, {**now['models'][0], 'state': EVIL, 'why': EVIL}]
        now['jail']['level'] = now['jail']['means'][0]['name'] = now['jail']['means'][1]['detail'] = EVIL
        self.reply(json.dumps(now).encode())

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        if self.path == '/api/show':
            return self.reply(json.dumps({'template': EVIL, 'model_info': {'general.architecture': EVIL}}).encode())
        if asked['messages'][-1]['content'] == 'fail':
            return self.reply(json.dumps({'error': {'message': EVIL, 'code': EVIL}}).encode(), status=400)
        events = [{'choices': [{'delta': {'content': EVIL[i:i + 5]}, 'finish_reason': None}]} for i in range(0, len(EVIL), 5)]
        events.append({'choices': [{'delta': {}, 'finish_reason': EVIL}]})
        self.reply(b''.join(b'data: ' + json.dumps(e).encode() + b'\n\n' for e in events) + b'data: [DONE]\n\n', 'text/event-stream')


@needs_browser
class Escaping(unittest.TestCase):
    def test_what_models_and_servers_say_is_text(self):
        browser = Browser()
        self.addCleanup(browser.close)
        with Server('--page') as real:
            stub = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Stub)
            stub.real, stub.daemon_threads = real, True
            threading.Thread(target=stub.serve_forever, daemon=True).start()
            self.addCleanup(stub.server_close)
            self.addCleanup(stub.shutdown)
            browser.open(f'http://127.0.0.1:{stub.server_port}/')
            browser.wait('the live view is there', 'return document.querySelectorAll(".model").length === 3 && document.querySelector(".means")')
            for text in (EVIL, 'fail'):
                browser.type('#prompt', 'x' if text == EVIL else text)
                browser.click('#send')
                browser.wait('it is answered', 'return document.querySelector(arguments[0])', '.facts, .turn .after button' if text == EVIL else '.turn .error')
                browser.wait('it is idle', IDLE)
            self.assertEqual(browser.js('return document.querySelector(".turn.its .text").textContent'), EVIL)
            self.assertEqual(browser.js('return document.querySelector(".turn .error").textContent'), EVIL)
            self.assertEqual(browser.js('return document.querySelector(".model:nth-child(2) h3").textContent'), EVIL)
            self.assertEqual(browser.js('return document.getElementById("model").selectedOptions[0].textContent.trim()'), re.sub(r'\s+', ' ', EVIL).strip())
            time.sleep(0.3)
            self.assertEqual(browser.js('return [window.hit ?? null, document.querySelectorAll("img, script:not(body > script), b, main style").length]'), [None, 0])
            self.assertEqual([e for e in browser.log() if '400' not in e['message']], [])


if __name__ == '__main__':
    unittest.main()
