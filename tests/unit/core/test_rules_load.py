"""core.rules.load: files of rules, taken whole or with all that is wrong with them."""

from __future__ import annotations

import pytest

from core.rules import load as module
from core.rules.limits import FILE_BYTES_MAX
from core.rules.load import load
from core.rules.model import RuleSet
from tests.ruling import one, problems, rules


def version(text: str, name: str, head: str = "") -> str:
    return one('event = "x"', head=head).replace('version = "1"', f'version = "{name}"') + text


def test_rules_of_several_files_are_one_set() -> None:
    """With the file and the line of each."""
    other = "# first\n\n" + one('event = "y"').replace('"r"', '"other"')
    found = rules(one('event = "x"'), other)
    assert [(rule.id, rule.file, rule.line) for rule in found.rules] == [("r", "f0.toml", 1), ("other", "f1.toml", 3)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[rule]\nid = 1", "f0.toml:1: column 7: this is not TOML: "),
        ("id = \n", "f0.toml:1: column 6: this is not TOML: "),
        ("", "f0.toml: there is no rule in this file"),
        ("rule = 7", "f0.toml: rule: each rule is a table headed [[rule]]"),
        ("rule = [7]", "f0.toml: rule: each rule is a table"),
        ("\n[rules]\n", "f0.toml:2: rules: unknown; a file of rules has [[rule]] tables and no more"),
        ("#" * (FILE_BYTES_MAX + 1), "f0.toml: a file of rules has at most 1048576 bytes"),
        ("a = " + "[" * 5_000, "f0.toml: this is not TOML: "),
    ],
)
def test_what_is_no_file_of_rules_is_told(text: str, says: str) -> None:
    """With the position, where there is one."""
    assert problems(text)[0].startswith(says)


def test_each_problem_has_its_line() -> None:
    """The line of the field as it is written: a key, a dotted key, a table's header, or within a table of one line."""
    text = (
        one('event = "x"')
        + '\n\n[[rule]]\nid = "b"\nversion = "1"\ntenants = ["*"]\nseverity = "mild"\n\n[rule.when]\n'
    )
    text += 'absent = { after = "a", no = "b", within = "0s" }\n'
    text += 'unless = "1 +"\n[[rule.do]]\nmessage.text = "${x}"\n[[rule.do]]\n[rule.do.webhook]\nurl = "y"\n'
    lines = text.splitlines()

    def line(part: str) -> int:
        return next(at for at, one in enumerate(lines, 1) if part in one)

    assert problems(text) == [
        f"f0.toml:{line('mild')}: rule b: severity: is one of info, warning, critical, not 'mild'",
        f"f0.toml:{line('1 +')}: rule b: when.unless: " + problems(text)[1].split("when.unless: ")[1],
        f"f0.toml:{line('within')}: rule b: when.absent.within: is more than 0 and at most 366d, not '0s'",
        f"f0.toml:{line('${x}')}: rule b: do[1].message.text: " + problems(text)[3].split("message.text: ")[1],
        f"f0.toml:{line('url')}: rule b: do[2].webhook.url: " + problems(text)[4].split("webhook.url: ")[1],
    ]


def test_a_field_that_is_not_there_has_its_rules_line() -> None:
    """And a rule without a name has its number."""
    assert problems('\n[[rule]]\nid = "a"\n')[0].startswith("f0.toml:2: rule a: version: ")
    assert problems("[[rule]]\n")[0].startswith("f0.toml:1: rule number 1: id: ")
    text = one('event = "x"') + '[[rule]]\nid = "b"\n[rule.when]\n[[rule.do]]\n[[rule.do]]\n'
    start = text[: text.index('id = "b"')].count("\n")
    assert [problem.partition(" rule ")[0] for problem in problems(text)] == [
        f"f0.toml:{start}:",  # version
        f"f0.toml:{start}:",  # tenants
        f"f0.toml:{start + 2}:",  # when
        f"f0.toml:{start + 3}:",  # do[1]
        f"f0.toml:{start + 4}:",  # do[2]
    ]


def test_where_lines_cannot_be_told_none_is() -> None:
    """Rules that are not headed [[rule]] line by line."""
    assert problems('rule = [{ id = "a" }]')[0].startswith("f0.toml: rule a: version: ")


def test_a_version_is_given_once() -> None:
    """The second one is told where the first is."""
    assert problems(one('event = "x"'), one('event = "y"')) == [
        "f1.toml:1: rule r: version: the version 1 of this rule is at f0.toml:1 already; give each version its own name"
    ]
    inline = 'rule = [{ id = "r", version = "1", tenants = "*", when = { event = "x" }, do = [{ message = { text = "x" } }] }]'
    assert "is at f0.toml already" in problems(inline, inline)[0]


def test_versions_are_not_in_force_together() -> None:
    """One ends before the next begins; then both are taken."""
    old, new = version("", "1"), version("", "2", "effective_from = 2026-12-01")
    assert (
        "f1.toml:1: rule r: effective_from: in force at the same time as the version 1 at f0.toml:1"
        in problems(old, new)[0]
    )
    ended = version("", "1", "effective_until = 2026-12-01")
    assert len(rules(ended, new).rules) == 2
    assert len(rules(new, ended).rules) == 2


def test_tenants_may_have_rules_of_the_same_name() -> None:
    """They never meet; one for all meets everybody's."""

    def of(tenant: str) -> str:
        return one('event = "x"').replace('"*"', f'"{tenant}"')

    assert len(rules(of("a"), of("b")).rules) == 2
    assert problems(of("a"), of("*"))


def test_a_tenant_has_a_bounded_number_of_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those for all tenants count for each."""
    monkeypatch.setattr(module, "RULES_MAX", 2)
    many = "\n".join(one('event = "x"').replace('"r"', f'"r{n}"') for n in range(2))
    assert isinstance(load([("f", many)]), RuleSet)
    more = one('event = "x"').replace('"*"', '"acme"')
    assert problems(many, more) == ["f0.toml: 3 rules for the tenant acme; at most 2"]
    assert problems(many, one('event = "x"')) == ["f0.toml: 3 rules for all tenants; at most 2"]


def test_rules_that_set_themselves_off_are_refused() -> None:
    """With the chain named, where it is known what commands become."""
    text = one('event = "flight.*"', do='[[rule.do]]\ncommand.type = "delay"')
    (found,) = problems(text, facts={"delay": ("flight.delayed",)})
    assert found.startswith("f0.toml:1: rule r: do: sets itself off for ever: r -> r; give one of them a where")
    assert isinstance(load([("f", text)]), RuleSet)


def test_a_hundred_problems_are_enough() -> None:
    """A file that is something else altogether does not fill the screen."""
    assert len(problems("\n".join("[[rule]]" for _ in range(60)))) == 100


def test_a_command_that_no_machine_takes_is_refused() -> None:
    """Where it is known what there is."""
    text = one('event = "x"', do='[[rule.do]]\ncommand.type = "dely"')
    assert problems(text, facts={"delay": ("flight.delayed",), "board": ("flight.boarding",)}) == [
        "f0.toml:1: rule r: do: no machine takes the command dely; there are board, delay"
    ]
