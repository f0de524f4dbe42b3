"""spark plan: the printed sum is what the service takes, and a budget is kept."""
import json, pathlib, re, socket, subprocess, time, unittest

from serving import Server, in_parallel, resident
from support import SPARK, SYNTHETIC, Folder, spark, spark_json, wait_until

PARTS = ['weights', 'kv', 'compute', 'requests', 'text', 'vocabulary', 'links', 'program']
MIB = 1 << 20


def fill(s, ctx, parallel):
    """Everything that the plan speaks of gets used: contexts to their end, more that wait, the largest texts both ways."""
    prompt = [(7 * j) % 200 + 300 for j in range(ctx - 24)]

    def one(i):
        status, data = s.post('/v1/completions', {'model': s.model, 'prompt': [i + 300, *prompt], 'max_tokens': 23, 'ignore_eos': True,
                                                  'temperature': 1, 'seed': i, 'logprobs': 5, 'logit_bias': {str(k): 1 for k in range(300)}})
        assert status == 200, data
    in_parallel(2 * parallel, one)
    for letters in 50_000, 400_000, 1_200_000, 2_000_000, 3_900_000: # up to what the plan leaves for texts
        s.post('/tokenize', {'model': s.model, 'content': ('word ' * letters)[:letters]})
        s.post('/tokenize', {'model': s.model, 'content': 'a' * letters})


class Sum(Folder):
    def test_the_parts_make_the_whole(self):
        plan = spark_json('plan', '--json')
        for m in plan['models']:
            self.assertEqual(m['planned'], max(m['loading'], sum(m[p] for p in PARTS)))
        self.assertEqual(plan['planned'], plan['front']['planned'] + sum(m['planned'] for m in plan['models']))

    def test_every_setting_that_costs_memory_shows(self):
        base = spark_json('plan', '--json')['models'][0]
        for options, part, grows in (['--ctx', '256'], 'kv', False), (['--parallel', '32'], 'kv', True), (['--kv', 'f32'], 'kv', True), \
                (['--kv', 'q8_0'], 'kv', False), (['--queue', '0'], 'requests', False), (['--threads', '8'], 'compute', True):
            got = spark_json('plan', '--json', *options)['models'][0][part]
            (self.assertGreater if grows else self.assertLess)(got, base[part], options)
        wide = spark_json('plan', '--json', '--max-connections', '20000')['front']['planned']
        self.assertGreater(wide, spark_json('plan', '--json')['front']['planned'])
        kept = spark_json('plan', '--json', '--log-prompts')['front']['planned']
        self.assertEqual(kept - spark_json('plan', '--json')['front']['planned'], (16 + 256) * 16384) # of each that may run or wait

    def test_files_are_served_by_their_names_and_a_broken_one_is_told(self):
        bad = self.dir / 'my model.gguf'
        bad.write_bytes(b'GGUF' + bytes(60))
        code, out, err = spark('plan', bad)
        self.assertEqual((code, out), (1, b''))
        self.assertIn('my model.gguf', err)
        subprocess.run([SYNTHETIC, 'nano', 'q4_0', self.dir / 'a b.gguf'], check=True)
        self.assertEqual(spark_json('plan', self.dir / 'a b.gguf', '--json')['models'][0]['name'], 'a-b')

    def test_what_does_not_fit_ends_with_1_and_the_sum(self):
        code, out, err = spark('plan', '--memory', '100M')
        self.assertEqual(code, 1)
        self.assertIn(b'DOES NOT FIT', out)
        self.assertRegex(err, r'needs .* MiB .* leaves .* MiB; raise --memory')
        self.assertFalse(json.loads(spark('plan', '--memory', '100M', '--json')[1])['fits'])

    def test_a_sum_that_does_not_fit_says_so_and_promises_nothing(self):
        out = spark('plan', '--memory', '100M')[1].decode()
        self.assertIn('more than the budget of 100.0 MiB', out)
        self.assertNotIn('whole context', out)

    def test_models_loaded_on_use_are_in_the_second_sum_and_never_over_the_budget(self):
        options = ['--model', 'a=', '--model', 'b=', '--model', 'c=', '--model-set', 'b.load=use', '--model-set', 'c.load=use', '--json']
        plan = spark_json('plan', *options)
        a, b, c = (m['planned'] for m in plan['models'])
        self.assertEqual((plan['planned'], plan['planned_at_most']), (plan['front']['planned'] + a, plan['front']['planned'] + a + b + c))
        front = spark_json('plan', *options, '--memory', '400M')['front']['planned'] # its least
        budget = (front + a + b + c // 2) // MIB # two of the three fit at once
        plan = spark_json('plan', *options, '--memory', f'{budget}M')
        self.assertEqual((plan['fits'], plan['planned_at_most']), (True, budget * MIB))
        self.assertLess(plan['planned'], budget * MIB)
        self.assertIn('at most, with models loaded on use', spark('plan', *options[:-1])[1].decode())

    def test_a_context_above_the_models_is_wrong_usage(self):
        for command in ['plan'], ['serve', '--no-auth', '--listen', 'tcp:127.0.0.1:0']:
            code, _, err = spark(*command, '--ctx', '1000000')
            self.assertEqual(code, 2, err)

    def test_the_text_form_names_every_part(self):
        out = spark('plan')[1].decode()
        for words in 'weights', 'keys and values', 'requests at once', 'front and warden', 'sum: ':
            self.assertIn(words, out)


class Kept(Folder):
    def check(self, *options, ctx, parallel):
        options = [*options, '--ctx', ctx, '--parallel', parallel, '--queue', parallel, '--threads', 2]
        plan = spark_json('plan', '--json', *options)['models'][0]
        with Server(*options) as s:
            ready = [json.loads(line) for line in s.log().splitlines() if '"model_ready"' in line][0]
            for part in PARTS: # the start prints the same sum
                self.assertEqual(ready[part + '_bytes'], plan[part], part)
            self.assertEqual(ready['planned_bytes'], plan['planned'])
            pid = s.cells()['engine ' + s.model][0]
            rows = sum(plan[part] for part in ('weights', 'kv', 'compute', 'requests')) # resident before anybody asks for something
            wait_until(lambda: resident(pid) >= 0.97 * rows, why=lambda: f'idle: {resident(pid) / MIB:.1f} MiB resident, {rows / MIB:.1f} are to be')
            fill(s, ctx, parallel)
            got, peak = resident(pid), int(re.search(r'VmHWM:\s+(\d+)', pathlib.Path(f'/proc/{pid}/status').read_text())[1]) * 1024
            self.assertLessEqual(peak, plan['planned'], 'the plan is exceeded')
            self.assertGreaterEqual(got, 0.95 * plan['planned'], f'{got / MIB:.1f} MiB of {plan["planned"] / MIB:.1f} planned')
            front = spark_json('plan', '--json', *options)['front']['planned']
            self.assertLessEqual(resident(s.cells()['front'][0]) + resident(s.process.pid), front)

    def test_resident_memory_at_full_load_is_the_plan_demo(self):
        self.check(ctx=512, parallel=16)

    def test_resident_memory_at_full_load_is_the_plan_half_a_billion(self):
        model = self.dir / 'q.gguf'
        subprocess.run([SYNTHETIC, 'qwen2.5-0.5b', 'q4_0', model], check=True)
        self.check('--model', f'q={model}', ctx=512, parallel=4)


class Budget(Folder):
    def test_two_models_share_what_neither_may_have_alone(self):
        options = ['--model', 'a=', '--model', 'b=', '--model-set', 'b.parallel=64', '--memory', '240M']
        plan = spark_json('plan', '--json', *options)
        a, b = plan['models']
        self.assertLessEqual(plan['planned'], 240 * MIB)
        self.assertGreater(plan['planned'], 236 * MIB)
        for m in a, b:
            self.assertTrue(1 <= m['whole_contexts'] < m['n_running'], m)
        self.assertGreater(b['whole_contexts'], a['whole_contexts'])
        with Server(*options) as s:
            ready = {m['model']: m for m in map(json.loads, [line for line in s.log().splitlines() if line.startswith('{')]) if m['event'] == 'model_ready'}
            for m in a, b:
                self.assertEqual(ready[m['name']]['planned_bytes'], m['planned'])
            in_parallel(20, lambda i: s.complete(model='ab'[i % 2], max_tokens=40))
            everything = sum(resident(p[0]) for p in s.cells().values()) + resident(s.process.pid)
            self.assertLessEqual(everything, 240 * MIB)

    def test_the_log_tells_the_sum_at_start_its_bound_and_each_sum_that_comes(self):
        options = ['--model', 'a=', '--model', 'b=', '--model-set', 'b.load=use']
        for budget in [], ['--memory', '400M']:
            with Server(*options, *budget) as s:
                sums = lambda: [json.loads(line) for line in s.log().splitlines() if '"memory_plan"' in line]
                plan = spark_json('plan', *options, *budget, '--json')
                self.assertEqual([(m['planned_bytes'], m['models_on_use'], m.get('planned_at_most_bytes')) for m in sums()],
                                 [(plan['planned'], 1, 400 * MIB if budget else None)])
                s.complete(model='b')
                self.assertEqual([m['planned_bytes'] for m in sums()][1:], [plan['planned_at_most']])
        with Server('--memory', '400M') as s:
            self.assertNotRegex(s.log(), 'planned_at_most|models_on_use')

    def test_log_metrics_and_live_view_tell_the_sums_of_the_plan(self):
        """At start the first sum; once the model that is loaded on use is there the second, whatever part of its pages the budget leaves it."""
        options = ['--model', 'a=', '--model', 'b=', '--model-set', 'b.load=use']
        pages = set()
        for budget in [], ['--memory', '190M'], ['--memory', '200M'], ['--memory', '400M']:
            plan = spark_json('plan', *options, *budget, '--json')
            a, b = plan['models']
            front = plan['front']['planned']
            pages.add(b['n_pages'])

            def compare(models, total):
                told = [json.loads(line) for line in s.log().splitlines() if '"memory_plan"' in line][-1]
                self.assertEqual((told['planned_bytes'], told['front_bytes'], told['engines_bytes']), (total, front, total - front), budget)
                self.assertEqual(sum(s.metric('spark_memory_planned_bytes', cell='engine', model=m['name']) for m in models), total - front)
                self.assertEqual(s.metric('spark_memory_planned_bytes', cell='front', model=''), front)
                live = json.loads(s.get('/spark/live')[1])
                self.assertEqual(live['memory']['budget'], plan['budget'])
                self.assertEqual(live['memory']['planned'], total)
                self.assertEqual([m['memory'] and m['memory']['planned'] for m in live['models']],
                                 [m['planned'] if m in models else None for m in (a, b)])
            with Server(*options, *budget) as s:
                compare([a], plan['planned'])
                s.complete(model='b')
                compare([a, b], plan['planned_at_most'])
        self.assertEqual(len(pages), 3, 'the budgets leave b different parts of its pages')

    def test_a_model_that_does_not_fit_beside_the_first_is_told_at_start(self):
        p = subprocess.run([SPARK, 'serve', '--model', 'a=', '--model', 'b=', '--memory', '150M', '--no-auth', '--listen', 'tcp:127.0.0.1:0'],
                           capture_output=True, timeout=30)
        self.assertEqual(p.returncode, 1, p.stderr)
        self.assertRegex(p.stderr.decode(), r'"model":"b".*needs .* MiB')

    def test_a_budget_that_not_even_the_front_fits_is_refused(self):
        code, _, err = spark('serve', '--memory', '20M', '--no-auth', '--listen', 'tcp:127.0.0.1:0')
        self.assertEqual(code, 1)
        self.assertIn('front and warden', err)

    def test_the_largest_bodies_end_nothing(self):
        with Server() as s:
            before = s.cells()
            for n in 300_000, 1_000_000, 2_000_000, 4_000_000:
                self.assertIn(s.post('/tokenize', {'model': 'demo', 'content': 'a' * n})[0], (200, 400))
                self.assertEqual(s.post('/v1/chat/completions', {'model': 'demo', 'messages': [{'role': 'user', 'content': '.'}] * (n // 40)})[0], 400)
            self.assertEqual(s.cells(), before)

    def test_the_front_stays_within_its_share_and_others_are_served(self):
        with Server('--memory', '150M', '--max-connections', '9000') as s:
            share = spark_json('plan', '--json', '--memory', '150M', '--max-connections', '9000')['front']['planned']
            front = s.cells()['front'][0]
            body = b'POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4000000\r\n\r\n'
            held, part = [], b' ' * 3_900_000
            for _ in range(60): # 230 MB, if they were taken
                k = socket.create_connection(('127.0.0.1', s.port))
                k.settimeout(2)
                self.addCleanup(k.close)
                held.append(k)
                try:
                    k.sendall(body + part)
                except OSError: # refused: as it should be, once memory is out
                    pass
            self.assertLessEqual(resident(front) + resident(s.process.pid), share)
            for k in held:
                k.close()
            time.sleep(0.5)
            self.assertEqual(s.cells()['front'][0], front, 'the front ended')
            self.assertTrue(s.complete())


if __name__ == '__main__':
    unittest.main()
