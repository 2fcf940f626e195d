"""Which queries a tenant may ask, with what words others are refused, and queries for one rollout alone."""

from __future__ import annotations

import time

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops_commander.core.promql import (
    PodLabels,
    QueryProblem,
    check,
    matcher,
    scoped,
    unscoped,
    with_matchers,
)

JOIN = 'a{$labels} * on (ip) group_left (namespace, pod) group by (ip, namespace, pod) (info{x="y",$scope})'


@pytest.mark.parametrize(
    ("query", "form"),
    [
        ("requests_total", "requests_total"),
        ("requests_total {code = '200', }  # all", 'requests_total{code="200"}'),
        (r"a{b=~`\d+`}", r'a{b=~"\\d+"}'),
        (r'a{b="\x41\n\u00e9"}', r'a{b="A\né"}'),
        ('{"dotted.name","dotted.label"="x"}', '{__name__="dotted.name","dotted.label"="x"}'),
        ('{__name__=~"http_(requests|calls)_total"}', '{__name__=~"http_(requests|calls)_total"}'),
        ('{__name__="a"}', '{__name__="a"}'),
        ('a{namespace="other",pod=~"x.*"}', 'a{namespace="other",pod=~"x.*"}'),
        ("((a))", "((a))"),
        ("sum by (namespace,pod,le)(a)", "sum by (namespace, pod, le) (a)"),
        ("sum(a) by (pod, namespace)", "sum by (pod, namespace) (a)"),
        ("sum without (code) (a)", "sum without (code) (a)"),
        ("SUM BY (namespace, pod) (a) OR b", "sum by (namespace, pod) (a) or b"),
        ("a + b - c", "a + b - c"),
        ("a - on(namespace, pod, code) b", "a - on (namespace, pod, code) b"),
        ("a and b or c unless on(pod,namespace) d", "a and b or c unless on (pod, namespace) d"),
        ("a * 0.001", "a * 0.001"),
        ("(1000) * (a + b)", "(1000) * (a + b)"),
        ('a{b="$scope"}', 'a{b="$scope"}'),
        ("sum + rate", "sum + rate"),
    ],
)
def test_a_tenant_may_ask_for_counters_that_keep_their_pods(query: str, form: str) -> None:
    check(query)
    assert unscoped(query) == form
    check(form)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("rate(a[5m])", "counters are read raw: remove rate() at character 1, and its [range]"),
        ("a + increase (b[1h])", "counters are read raw: remove increase() at character 5, and its [range]"),
        ("irate(a)", "counters are read raw: remove irate()"),
        ("delta(a[5m] offset 1m)", "counters are read raw: remove delta()"),
        ("max_over_time(a[5m:1m])", "counters are read raw: remove max_over_time()"),
        ('label_replace(a, "pod", "x", "", "")', "label_replace() in 'label_replace(a, "),
        ("histogram_quantile(0.9, a)", "expected no function; counters are read raw, with the labels they have"),
        ("vector(1)", "vector() in 'vector(1)'"),
        ("a[5m]", "'a[5m]' is a range: counters are read raw; remove [5m]"),
        ("a[5m:]", "'a[5m:]' is a subquery: expected the counter itself"),
        ("sum(a)", "sum in 'sum (a)' merges all pods: expected sum by (namespace, pod) (…)"),
        ("sum by () (a)", "merges pods"),
        ("sum by (pod) (a)", "sum by (pod) in 'sum by (pod) (a)' merges pods: expected sum by (namespace, pod) (…)"),
        ("sum without (pod) (a)", "sum without (pod) in 'sum without (pod) (a)' merges pods"),
        ("max by (namespace, pod) (a)", "max in 'max by (namespace, pod) (a)': expected a counter, or sum by"),
        ("topk(1, a)", "topk in 'topk (1, a)'"),
        ("a offset 5m", "offset in 'a offset 5m': expected the counter as it is now"),
        ("a offset -5m", "offset in 'a offset -5m'"),
        ("a @ 1609746000", "@ in 'a @ 1609746000'"),
        ("a @ start()", "@ in 'a @ start()'"),
        ('{job="x"}', "'{job=\"x\"}' names no metric: expected one, such as http_requests_total"),
        ('{__name__!="x",job="y"}', "names no metric"),
        ('{__name__=~".+"}', "names no metric"),
        ('{__name__=~".*",job="x"}', "names no metric"),
        ('{__name__=~"(abc)*",job="x"}', "names no metric"),
        ('{__name__="",job="x"}', "names no metric"),
        ("{}", "at least one non-empty matcher, in '{}'"),
        ("a + on(pod) b", "on (…) in 'a + on (pod) b' matches other pods: expected on (namespace, pod, …)"),
        ("a + on() b", "matches other pods"),
        ("a + ignoring(code) b", "ignoring in 'a + ignoring (code) b': expected on (namespace, pod, …)"),
        ("a + on(namespace, pod) group_left b", "expected one row to match one row"),
        ("a + on(namespace, pod) group_right(x) b", "expected one row to match one row"),
        ("a + fill(0) b", "fill in 'a + fill_left (0) fill_right (0) b'"),
        ("a * b", "* in 'a * b': expected a counter and one number"),
        ("2 * 3", "* in '2 * 3': expected a counter and one number"),
        ("a * 0", "* 0 in 'a * 0': expected a number above 0"),
        ("a * -2", "* -2 in 'a * -2': expected a number above 0"),
        ("a * NaN", "* NaN in 'a * NaN': expected a number above 0"),
        ("a * Inf", "expected a number above 0"),
        ("a / 2", "/ in 'a / 2': expected +, -, and, or, unless, or * with a number"),
        ("a > 5", "> in 'a > 5'"),
        ("a == bool b", "== in 'a == bool b'"),
        ("a ^ 2", "^ in 'a ^ 2'"),
        ("a + 1", "1 in 'a + 1': expected counters on both sides"),
        ("-a", "'-a' is negative: expected a counter; write a - b"),
        ("5", "'5' is a constant"),
        ('"a"', "'\"a\"' is a constant"),
        ('a{b="1" or c="2"}', "or among the matchers of 'a'"),
        ("a{$scope}", "$scope at character 3: only presets may have placeholders"),
        ("sum by (namespace, pod) (a{x=`y`,$labels})", "only presets may have placeholders"),
        ('a{__placeholder_scope__=""}', "begins with __placeholder_"),
    ],
)
def test_anything_else_is_refused_with_what_to_write_instead(query: str, said: str) -> None:
    with pytest.raises(QueryProblem) as error:
        check(query)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "the query is empty: expected a selector of a counter"),
        (" # nothing", "the query is empty"),
        ("a b", "syntax error at character 3, near 'b': 'b' was not expected there"),
        ("sum by (namespace pod) (a)", "syntax error at character 19, near 'pod) (a)'"),
        ("a and", "syntax error after 'and': the query ends too early"),
        ("a{b==c}", "syntax error at character 4, near '==c}'"),
        ('a{b="c" d="e"}', "syntax error at character 9"),
        ("a{,}", "syntax error at character 3"),
        ("a; drop", "syntax error at character 2, near '; drop': ';' is not PromQL"),
        ("$other", "syntax error at character 1, near '$other'"),
        ('a{b="c}', "syntax error at character 5, near '\"c}': a string that does not end is not PromQL"),
        ('a{b="x\ny"}', "a string that does not end"),
        ("a{b=`x}", "a string that does not end"),
        ('a{b="c"', "syntax error: '{' at character 2 is not closed"),
        ("(a", "syntax error: '(' at character 1 is not closed"),
        ("a)", "syntax error at character 2: ')' closes nothing"),
        ("(a]", "syntax error at character 3: ']' closes nothing"),
        ('a{b=~"("}', "illegal regex for (, in 'a{b=~\"(\"}'"),
        (r'a{b="\q"}', "unknown escape sequence 'q'"),
        ('a{b="\ud800"}', "the query is not valid Unicode"),
        ("a\ud800", "is not PromQL"),
        ("é_total", "'é' is not PromQL"),
        ("a" * 4097, "the query has 4097 characters: expected at most 4096"),
        ("(" * 33 + "a" + ")" * 33, "nested too deeply at character 33: expected at most 32 levels"),
        ("(" * 2000, "nested too deeply"),
        ("sum(" * 1000, "nested too deeply"),
        ("a" + "+a" * 101, "the query has 101 operators: expected at most 100"),
        ("-" * 4000 + "a", "4000 operators"),
        ("a" + "^a" * 1000, "1000 operators"),
        (r'a{b=~"((a{1000}){1000}){1000}"}', "illegal regex"),
    ],
)
@pytest.mark.parametrize("ask", [check, unscoped])
def test_a_syntax_error_names_its_place(ask: object, query: str, said: str) -> None:
    assert callable(ask)
    with pytest.raises(QueryProblem) as error:
        ask(query)
    assert said in str(error.value) and len(str(error.value)) < 400


def test_the_largest_queries_are_checked_in_no_time() -> None:
    queries = ["+".join(['(sum(x{y="z"}) by (namespace,pod))'] * 100), "(" * 32 + "x" + ")" * 32, "x" + " - x" * 100]
    begin = time.perf_counter()
    for query in queries:
        check(query)
        assert scoped(query, namespace="shop", pod_prefix="r").count("shop") == query.count("x")
        with pytest.raises(QueryProblem):
            check(f"{query} b")
    assert time.perf_counter() - begin < 3


def test_labels_of_pods_may_have_other_names() -> None:
    labels = PodLabels("exported_namespace", "exported_pod")
    check("sum by (exported_namespace, exported_pod) (a)", labels)
    with pytest.raises(QueryProblem, match=r"expected sum by \(exported_namespace, exported_pod\)"):
        check("sum by (namespace, pod) (a)", labels)
    with pytest.raises(QueryProblem, match=r"expected on \(exported_namespace, exported_pod, …\)"):
        check("a or on(namespace, pod) b", labels)
    assert scoped("a", namespace="s", pod_prefix="r", labels=labels) == (
        'a{exported_namespace="s",exported_pod=~"r-[a-z0-9]+"}'
    )


SCOPE = 'namespace="shop",pod=~"r-[a-z0-9]+"'


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("a", f"a{{{SCOPE}}}"),
        ('a{b="c"}', f'a{{b="c",{SCOPE}}}'),
        ('{__name__=~"abc.*"}', f'{{__name__=~"abc.*",{SCOPE}}}'),
        ("a or on (namespace, pod) b", f"a{{{SCOPE}}} or on (namespace, pod) b{{{SCOPE}}}"),
        ("sum by (namespace, pod) (a) * 2", f"sum by (namespace, pod) (a{{{SCOPE}}}) * 2"),
        ("rate(a[5m] offset 1m)", f"rate(a{{{SCOPE}}}[5m] offset 1m)"),
        ("max_over_time(a[1h:5m] @ end())", f"max_over_time(a{{{SCOPE}}}[1h:5m] @ end())"),
        ('topk by (x) (2, a{pod="p"})', f'topk by (x) (2, a{{pod="p",{SCOPE}}})'),
        ("-a ^ 2 > bool 1", f"-a{{{SCOPE}}} ^ 2 > bool 1"),
        ('label_replace(up, "x", "$1", "y", "(.*)")', f'label_replace(up{{{SCOPE}}}, "x", "$1", "y", "(.*)")'),
        (
            JOIN,
            f'a * on (ip) group_left (namespace, pod) group by (ip, namespace, pod) (info{{x="y",{SCOPE}}})',
        ),
        ("a{$scope} + b", f"a{{{SCOPE}}} + b"),
    ],
)
def test_a_scoped_query_asks_for_the_pods_of_one_rollout(query: str, wanted: str) -> None:
    assert scoped(query, namespace="shop", pod_prefix="r") == wanted


def test_a_query_may_be_scoped_to_several_namespaces_and_to_no_pods_there() -> None:
    assert scoped("a + b", namespace=["shop"]) == 'a{namespace="shop"} + b{namespace="shop"}'
    assert scoped("a{$scope} + b", namespace=["shop", "bank", "shop"]) == 'a{namespace=~"bank|shop"} + b'
    assert scoped("a", namespace=["a.b", "c"], pod_prefix=["r", "q"]) == (
        'a{namespace=~"a\\\\.b|c",pod=~"(?:q|r)-[a-z0-9]+"}'
    )


def test_the_pods_of_a_comparer_have_names_of_their_own() -> None:
    assert scoped("a{$comparer} + b + c{$scope}", namespace="shop", pod_prefix="r.1") == (
        'a{namespace="shop",pod=~"r\\\\.1-compare-[a-z0-9]+"} + b + c{namespace="shop",pod=~"r\\\\.1-[a-z0-9]+"}'
    )
    assert unscoped("a{$comparer}") == "a"
    assert with_matchers('a{$comparer,b="c"}', {"d": "e"}) == 'a{$comparer,b="c",d="e"}'


def test_placeholders_are_gone_from_an_unscoped_query() -> None:
    assert unscoped(JOIN) == 'a * on (ip) group_left (namespace, pod) group by (ip, namespace, pod) (info{x="y"})'
    assert unscoped("a{$scope,$labels}") == "a"
    assert unscoped('{$scope,__name__="a"}') == '{__name__="a"}'


def test_labels_of_a_preset_go_where_it_says_and_its_scope_stays() -> None:
    labels = {"model": 'a"b', "route": "x"}
    assert with_matchers("a + b{c=~`d`}", labels) == r'a{model="a\"b",route="x"} + b{c=~"d",model="a\"b",route="x"}'
    assert with_matchers(JOIN, {"model": "m"}) == (
        'a{model="m"} * on (ip) group_left (namespace, pod) group by (ip, namespace, pod) (info{x="y",$scope})'
    )
    assert with_matchers(JOIN, {}) == JOIN
    with pytest.raises(QueryProblem, match=r"has \$scope and no \$labels: where do model belong"):
        with_matchers("a{$scope} + b", {"model": "m"})


@pytest.mark.parametrize(
    ("label", "value", "wanted"),
    [
        ("a", "b", 'a="b"'),
        ("a", 'x"} or b{', r'a="x\"} or b{"'),
        ("a", "x\\", r'a="x\\"'),
        ("a", "x\ny\r\t\x00\x7f", r'a="x\ny\r\t\x00\x7f"'),
        ("a", "`$scope`", 'a="`$scope`"'),
        ("dotted.name", "é😀", '"dotted.name"="é😀"'),
        ('a"b', "", r'"a\"b"=""'),
    ],
)
def test_values_are_escaped(label: str, value: str, wanted: str) -> None:
    assert matcher(label, value) == wanted


def test_a_prefix_is_no_regex() -> None:
    query = scoped("a", namespace='s"', pod_prefix="r.*|(x)[y]{2}^$?+\\")
    assert query == r'a{namespace="s\"",pod=~"r\\.\\*\\|\\(x\\)\\[y\\]\\{2\\}\\^\\$\\?\\+\\\\-[a-z0-9]+"}'


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(namespace=TEXT, prefix=TEXT, value=TEXT)
def test_whatever_the_values_every_selector_has_just_the_matchers_that_it_should(
    namespace: str, prefix: str, value: str
) -> None:
    query = scoped(with_matchers("a + b{c='d'}", {"x": value}), namespace=namespace, pod_prefix=prefix)
    for side in ("lhs", "rhs"):
        found = {each.name: each.value for each in getattr(promql_parser.parse(query), side).matchers.matchers}
        assert found.pop("c", "d") == "d"
        assert (found.pop("namespace"), found.pop("x")) == (namespace, value)
        (pod,) = found.values()
        assert pod.endswith("-[a-z0-9]+")


SELECTORS = st.sampled_from(["xx1", 'xx2{c="d"}', "{__name__=~'xx3.+'}", 'xx4{f!~"g|h",i!="j"}'])
GROUPS = st.sampled_from(["by (namespace, pod)", "by (le, pod, namespace)", "without (code)"])


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    signs = st.sampled_from(["+", "-", "and", "or", "unless", "- on(namespace,pod)", "or on (pod, x, namespace)"])
    return st.one_of(
        st.builds("({})".format, inner),
        st.builds("sum {} ({})".format, GROUPS, inner),
        st.builds("{} {} {}".format, inner, signs, inner),
        st.builds("{} * {}".format, inner, st.sampled_from(["2", "0.5", "1e-9", "0x10"])),
    )


@given(st.recursive(SELECTORS, _larger, max_leaves=8))
def test_what_is_asked_is_what_was_checked(query: str) -> None:
    check(query)
    form = unscoped(query)
    assert promql_parser.parse(form).prettify() == promql_parser.parse(query).prettify()
    assert unscoped(form) == form
    mine = scoped(query, namespace="shop", pod_prefix="r")
    assert mine.count('namespace="shop"') == form.count("xx")
