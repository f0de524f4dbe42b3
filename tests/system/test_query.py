"""Query parameters of a running `spark serve`: what they ask happens, or is refused by name."""
import json, unittest

from serving import Server, chat_model, new_key
from support import Folder, wait_until


class Query(Folder):
    def refused(self, s, method, target, code, status=400, body=None):
        got, _, data = s.ask(method, target, body)
        self.assertEqual(got, status, (target, data))
        self.assertIn(code, data.decode(), target)

    def test_a_model_is_picked_by_its_name(self):
        with Server('--model', 'a=', '--model', 'b=', '--parallel', '3') as s:
            for path, of in ('/props', lambda d: d['model_alias']), ('/slots', lambda d: len(d)):
                first, a, b = (json.loads(s.get(path + q)[1]) for q in ('', '?model=a', '?model=b'))
                self.assertEqual(of(first), of(a))
                self.assertEqual(of(b), 'b' if path == '/props' else 3)
                status, data = s.get(path + '?model=c')
                self.assertEqual((status, json.loads(data)), (404, {'error': {'code': 404, 'message': "model 'c' not found", 'type': 'not_found_error'}}))
                self.refused(s, 'GET', path + '?model=', "'model'")

    def test_a_key_picks_among_its_models_only(self):
        keys = self.dir / 'keys'
        key = new_key(keys, '--model', 'a')
        with Server('--model', 'a=', '--model', 'b=', '--keys', keys, key=key) as s:
            for path in '/props', '/slots':
                self.assertEqual([s.get(f'{path}?model={m}')[0] for m in 'abc'], [200, 404, 404], path)

    def test_no_slot_is_503_while_all_decode_and_only_where_it_was_asked(self):
        with Server('--model', f'chat={chat_model(self.dir)}', '--parallel', '1') as s:
            ask = '/slots?fail_on_no_slot=1'
            self.assertEqual(s.get(ask)[0], 200)
            c, r = s.stream(max_tokens=8000, ignore_eos=True)
            full = wait_until(lambda: (lambda a: a if a[0] == 503 else None)(s.ask('GET', ask)), 20, lambda: s.get('/slots')[1].decode())
            self.assertEqual((json.loads(full[2])['error']['type'], full[1]['Retry-After']), ('unavailable_error', '1'))
            self.assertEqual((s.get('/slots')[0], s.get('/slots?fail_on_no_slot=0')[0]), (200, 200))
            r.close(), c.close()
            wait_until(lambda: s.get(ask)[0] == 200, 20, s.log)

    def test_a_model_that_waits_for_its_first_use_has_slots(self):
        with Server('--model', 'a=', '--load', 'use') as s:
            self.assertEqual(s.get('/slots?fail_on_no_slot=1')[0], 200)

    def test_others_are_refused_by_name_in_the_routes_words(self):
        with Server() as s:
            for path in '/props', '/slots', '/metrics', '/spark/live', '/v1/models', '/v1/models/demo', '/api/tags', '/api/ps', '/api/version':
                self.assertEqual(s.get(path)[0], 200)
                self.refused(s, 'GET', path + '?slot=1', "query parameter 'slot' is not known")
                self.refused(s, 'GET', path + '?api_key=sk-x', 'Authorization')
            self.refused(s, 'GET', '/v1/models?limit=3', '"code":"unsupported_parameter"')
            self.refused(s, 'GET', '/metrics?model=demo', "'model' is refused")
            body = {'model': 'demo', 'prompt': 'x', 'max_tokens': 1}
            self.assertEqual(s.post('/v1/completions?api-version=2024-10-21', body)[0], 200)
            self.assertEqual(s.get('/v1/models?api-version=2024-10-21&client_version=1')[0], 200)
            self.refused(s, 'POST', '/v1/completions?model=demo', '"param":"model"', body=body)
            self.refused(s, 'POST', '/completion?autoload=false', "'autoload' is refused", body={'prompt': 'x', 'n_predict': 1})
            status, data = s.post('/api/chat?stream=false', {'model': 'demo', 'messages': []})
            self.assertEqual((status, list(data)), (400, ['error']))
            self.assertEqual(s.get('/?utm=1')[0], 200)
            self.assertEqual(s.ask('POST', '/slots/0?action=save', {})[0], 403)
            self.assertEqual(s.ask('POST', '/v1/embeddings?x=1', {})[0], 501)

    def test_a_probe_of_health_may_add_what_it_likes_but_a_key(self):
        with Server() as s:
            for path in '/health', '/v1/health', '/health/live', '/health/ready', '/health/startup':
                for query in 't=1', 't=1&u=2&_=%20', '1763780000', 'model=demo', 'fail_on_no_slot=1', 'include_slots=1':
                    self.assertEqual(s.get(f'{path}?{query}'), s.get(path), query)
                    self.assertEqual(s.get(path)[0], 200)
                self.refused(s, 'GET', path + '?t=1&api_key=sk-x', 'Authorization')


if __name__ == '__main__':
    unittest.main()
