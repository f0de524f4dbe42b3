"""--log-prompts: with it prompts and answers stand in the log, whole, in their own lines, and nowhere else; without it nothing of them does."""
import json, re, unittest

from serving import Server, chat_model
from support import Folder, wait_until

FORGED = '{"ts":"2026-01-01T00:00:00.000Z","level":"info","event":"forged","request":"req-0"}'
HOSTILE = 'Zanzibar "quoted" \\ \\u000a \n' + FORGED + '\r\n' + FORGED + '\x00\x1b[2J\x9b\u2028\u202e\ufeff é 😀 \n'
BASE = {'model': 'demo', 'max_tokens': 12, 'temperature': 0}


def texts(r, stream):
    """The text of an answer of any dialect."""
    events = [json.loads(l.removeprefix('data: ')) for l in r.split('\n') if l.strip() and 'DONE' not in l] if stream else [json.loads(r)]
    found = ''
    for e in events:
        choice = (e.get('choices') or [{}])[0]
        found += (e.get('message') or {}).get('content') or e.get('response') or e.get('content', e.get('prompt')) or choice.get('text') or \
            (choice.get('message') or choice.get('delta') or {}).get('content') or ''
    return found


class LogPrompts(Folder):
    def setUp(self):
        super().setUp()
        self.models = ['--model', 'demo=', '--model', f'chat={chat_model(self.dir)}']

    def lines(self, s):
        """The log's lines; what is no JSON is the program's own word at start."""
        found = []
        for line in s.log().split('\n'):
            if line.startswith('{'):
                found.append(json.loads(line))
                self.assertIn(found[-1]['event'], {'engine_started', 'model_ready', 'memory_plan', 'prompts_logged', 'prompt', 'answer', 'request'}, line)
            else:
                self.assertNotIn('Zanzibar', line)
        return found

    def told(self, s, request):
        """{(event, choice, form): (text, cut)} of one request, and its other line."""
        found, last = {}, None
        wait_until(lambda: f'"event":"request","cell":"front","request":"{request}"' in s.log(), 20, s.log)
        for line in self.lines(s):
            if line.get('request') != request:
                continue
            self.assertIsNone(last, 'nothing comes after the line `request`')
            if line['event'] == 'request':
                last = line
                continue
            key = line['event'], line['choice'], line['form']
            text, cut, parts = found.get(key, ('', False, 0))
            self.assertEqual((line['part'], cut), (parts, False))
            found[key] = text + line['text'], line.get('cut', False), parts + 1
        return {k: v[:2] for k, v in found.items()}, last

    def asks(self):
        """(path, body, stream, form of its prompt) of every route that takes one."""
        messages = [{'role': 'system', 'content': 'Be kind.'}, {'role': 'user', 'content': HOSTILE}]
        chat = {'model': 'chat', 'messages': messages, 'temperature': 0}
        for stream in False, True:
            yield '/v1/completions', {**BASE, 'prompt': HOSTILE, 'stream': stream}, stream, 'text'
            yield '/completion', {'prompt': HOSTILE, 'n_predict': 12, 'seed': 1, 'stream': stream}, stream, 'text'
            yield '/api/generate', {'model': 'demo', 'prompt': HOSTILE, 'raw': True, 'stream': stream, 'options': {'num_predict': 12, 'seed': 1}}, stream, 'text'
            yield '/v1/chat/completions', {**chat, 'max_tokens': 12, 'stream': stream}, stream, 'messages'
            yield '/api/chat', {'model': 'chat', 'messages': messages, 'stream': stream, 'options': {'num_predict': 12}}, stream, 'messages'
            yield '/api/generate', {'model': 'chat', 'prompt': HOSTILE, 'stream': stream, 'options': {'num_predict': 12}}, stream, 'messages'
        yield '/apply-template', {'model': 'chat', 'messages': messages}, False, 'messages'
        yield '/tokenize', {'content': HOSTILE}, False, 'text'

    def test_what_was_asked_and_answered_is_told_and_no_text_makes_a_line(self):
        with Server(*self.models, '--log-prompts') as s:
            self.assertIn('prompts_logged', s.log())
            for path, body, stream, form in self.asks():
                status, headers, data = s.ask('POST', path, body)
                self.assertEqual(status, 200, (path, data))
                found, line = self.told(s, headers['X-Request-Id'])
                self.assertEqual((line['route'], line['status']), (path, 200))
                asked, cut = found.pop(('prompt', 0, form))
                self.assertFalse(cut)
                if form == 'messages':
                    asked = json.loads(asked)['messages'][-1]['content']
                self.assertEqual(asked, HOSTILE, path)
                if path == '/tokenize':
                    self.assertEqual(found, {}) # ids of what was asked: no text
                    continue
                answer = texts(data.decode(), stream)
                self.assertEqual(list(found), [('answer', 0, 'text')], path)
                said = found['answer', 0, 'text']
                self.assertEqual((said[0].replace('\ufffd', ''), said[1]), (answer.replace('\ufffd', ''), False), path)
                if body.get('model') != 'chat':
                    self.assertGreater(len(answer), 4, path)

    def test_ids_several_answers_and_refusals_are_told(self):
        with Server(*self.models, '--log-prompts') as s:
            ids = [5, 300, 301]
            _, headers, data = s.ask('POST', '/v1/completions', {**BASE, 'prompt': [ids, 'Once upon'], 'n': 2, 'temperature': 1, 'seed': 1})
            found, _ = self.told(s, headers['X-Request-Id'])
            answers = {c['index']: c['text'] for c in json.loads(data)['choices']}
            self.assertEqual({k: v[0] for k, v in found.items()}, {
                ('prompt', 0, 'ids'): '5,300,301', ('prompt', 2, 'text'): 'Once upon', **{('answer', i, 'text'): t for i, t in answers.items()}})
            _, headers, data = s.ask('POST', '/detokenize', {'tokens': ids})
            self.assertEqual(self.told(s, headers['X-Request-Id'])[0],
                             {('prompt', 0, 'ids'): ('5,300,301', False), ('answer', 0, 'text'): (json.loads(data)['content'], False)})
            status, headers, _ = s.ask('POST', '/v1/completions', {**BASE, 'prompt': 'much ' * 3000})
            found, line = self.told(s, headers['X-Request-Id'])
            self.assertEqual((status, line['status'], found), (400, 400, {('prompt', 0, 'text'): ('much ' * 3000, False)}))
            status, headers, _ = s.ask('POST', '/v1/completions', '{"model": "demo", "prompt": "Zanzibar \\ud800"}')
            self.assertEqual((status, self.told(s, headers['X-Request-Id'])[0]), (400, {})) # never became a prompt

    def test_of_a_long_text_the_first_16_kib_are_told(self):
        with Server(*self.models, '--log-prompts') as s:
            _, headers, _ = s.ask('POST', '/tokenize', {'content': 'a' + 'é' * 20000})
            self.assertEqual(self.told(s, headers['X-Request-Id'])[0], {('prompt', 0, 'text'): ('a' + 'é' * 8191, True)})
            ids = [300 + i % 100 for i in range(6000)]
            _, headers, data = s.ask('POST', '/detokenize', {'tokens': ids})
            found, _ = self.told(s, headers['X-Request-Id'])
            text, cut = found['prompt', 0, 'ids']
            self.assertTrue(cut and 16380 <= len(text) <= 16384 and ','.join(map(str, ids)).startswith(text))
            whole = json.loads(data)['content']
            self.assertEqual(found['answer', 0, 'text'], (whole[:16384], len(whole) > 16384))

    def test_an_answer_that_its_client_left_is_told_as_far_as_it_came(self):
        with Server('--log-prompts') as s:
            c, r = s.stream(max_tokens=400, ignore_eos=True)
            r.readline()
            r.close(), c.close()
            found, line = self.told(s, r.headers['X-Request-Id'])
            self.assertEqual((line['status'], found['prompt', 0, 'text'][0]), (499, 'Once upon a time'))
            self.assertTrue(found['answer', 0, 'text'][0])

    def test_without_it_nothing_of_them_is_told(self):
        for options in [], ['--log-level', 'debug'], ['--log-prompts', '--log-level', 'warn']:
            with Server(*self.models, *options) as s:
                said = []
                for path, body, stream, _ in self.asks():
                    status, _, data = s.ask('POST', path, body)
                    self.assertEqual(status, 200, path)
                    said.append(texts(data.decode(), stream))
                log = s.log()
                for text in 'Zanzibar', 'forged', 'Be kind', '"event":"prompt"', '"event":"answer"', *(t[:12] for t in said if len(t) >= 12 and re.match(r'[\w .,]*$', t)):
                    self.assertNotIn(text, log, options)


if __name__ == '__main__':
    unittest.main()
