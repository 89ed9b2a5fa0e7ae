"""Schemes made of other schemes delegate all that they do not say themselves."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from itertools import product
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from addnorm import UserError, schemes
from addnorm.config import OptimizerRule
from addnorm.layers.inside import Inside, Part, PlaceShape
from addnorm.residual import Connection, Exit, Profile, Scheme, Site
from addnorm.schemes._around import Composed
from addnorm.schemes.pre_norm import PreNorm, PreNormConnection
from addnorm.stack import sites
from addnorm.testing import laws
from addnorm.testing.small_models import small, tokens


def scheme_fields(cls: type[Scheme]) -> list[str]:
    """The fields that take a scheme, by their annotation or their default."""
    return [item.name for item in fields(cls) if "Scheme" in str(item.type) or isinstance(item.default, Scheme)]


COMPOSED = [name for name in schemes.names() if scheme_fields(schemes.get(name))]
"""Every scheme of the catalogue that takes a scheme: found, not listed."""


def around(name: str, inner: Scheme, **more: Any) -> Scheme:
    """The scheme of that name, with `inner` wherever it takes a scheme."""
    return schemes.get(name)(**dict.fromkeys(scheme_fields(schemes.get(name)), inner), **more)


def test_all_schemes_that_take_a_scheme_rest_on_one_base():
    assert {"backout", "by-layer", "gpas", "real-former", "stochastic-depth", "value-residual"} <= set(COMPOSED)
    for name in COMPOSED:
        assert issubclass(schemes.get(name), Composed), f"{name} delegates by itself; derive it from _around.Composed"


# --- each question that a scheme is asked


class Marked(nn.Identity):
    """What the inner scheme alone would make."""


class MarkedExit(Exit):
    """Of the inner scheme."""


class MarkedPart(Part):
    def build(self, shape: PlaceShape) -> nn.Module:
        return Marked()


class Connected(PreNormConnection):
    """Of the inner scheme."""


@dataclass(frozen=True, kw_only=True)
class Asked(PreNorm):
    """Answers every question as no default does, and writes down what it was told to do."""

    told: list[tuple[Any, ...]] = field(default_factory=list, compare=False)
    diagram: ClassVar[str] = "fork box:n sublayer scale:9 add"

    def connection(self, d_model: int, site: Site) -> Connection:
        return Connected(d_model, self.norm)

    def entrance(self, d_model: int) -> nn.Module:
        return Marked()

    def exit(self, d_model: int) -> Exit:
        return MarkedExit(d_model, "none")

    def logits(self, d_model: int, vocab_size: int) -> nn.Module:
        return Marked()

    def inside(self, site: Site) -> Inside:
        return Inside(inner=MarkedPart(), joined=MarkedPart())

    @property
    def needs_calibration(self) -> bool:
        return True

    @property
    def exact_gradient(self) -> bool:
        return False

    @property
    def constrains_weights(self) -> bool:
        return True

    def init_sublayer_(self, value_path: Any, site: Site) -> None:
        self.told.append(("init", site))

    def init_matrices_(self, weights: Any, site: Site) -> None:
        self.told.append(("matrices", site))

    def after_step_(self, site: Site | None, rows: Any, columns: Any) -> None:
        self.told.append(("after step", site))

    def calibrate_(self, connection: Connection, profile: Profile) -> Any:
        self.told.append(("calibrate", type(connection), type(profile.skip)))
        return 0.125

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        return OptimizerRule(learning_rate=9.0)


SITE = sites(4)[1]


def _calibrated(scheme: Scheme, inner: Asked) -> bool:
    connection = scheme.connection(8, SITE)
    _, skip = connection.read(scheme.entrance(8)(torch.ones(2, 8)))
    found = scheme.calibrate_(connection, Profile(site=SITE, skip=skip, update=torch.ones(2, 8), before=None))
    return found == 0.125 and inner.told == [("calibrate", Connected, Tensor)]


def _told(inner: Asked, *expected: Any) -> bool:
    return inner.told == list(expected)


def _rules(scheme: Scheme) -> bool:
    names = [name for name, _ in scheme.connection(8, SITE).named_parameters() if "norm" in name]
    asked = [scheme.optimizer_rule(None), *(scheme.optimizer_rule(SITE, own) for own in (None, *names))]
    return bool(names) and all(rule == OptimizerRule(learning_rate=9.0) for rule in asked)


def _is_or_holds(module: nn.Module, kind: type[nn.Module]) -> bool:
    return any(isinstance(each, kind) for each in module.modules())


ANSWERS = {
    "connection": lambda scheme, inner: _is_or_holds(scheme.connection(8, SITE), Connected),
    "entrance": lambda scheme, inner: _is_or_holds(scheme.entrance(8), Marked),
    "exit": lambda scheme, inner: _is_or_holds(scheme.exit(8), MarkedExit),
    "logits": lambda scheme, inner: _is_or_holds(scheme.logits(8, 5), Marked),
    "inside": lambda scheme, inner: isinstance(scheme.inside(SITE).inner, MarkedPart),
    "needs_calibration": lambda scheme, inner: scheme.needs_calibration,
    "exact_gradient": lambda scheme, inner: not scheme.exact_gradient,
    "constrains_weights": lambda scheme, inner: scheme.constrains_weights,
    "init_sublayer_": lambda scheme, inner: scheme.init_sublayer_([], SITE) is None and _told(inner, ("init", SITE)),
    "init_matrices_": lambda scheme, inner: (
        scheme.init_matrices_([], SITE) is None and _told(inner, ("matrices", SITE))
    ),
    "after_step_": lambda scheme, inner: (
        scheme.after_step_(SITE, [], []) is scheme.after_step_(None, [], [])
        and _told(inner, ("after step", SITE), ("after step", None))
    ),
    "calibrate_": _calibrated,
    "optimizer_rule": lambda scheme, inner: _rules(scheme),
    "norm": lambda scheme, inner: scheme.norm == "rms",
    "diagram": lambda scheme, inner: "scale:9" in scheme.diagram,
}


def test_every_question_to_a_scheme_has_a_line_here():
    questions = {name for base in (Scheme, PreNorm) for name in vars(base) if not name.startswith("_")}
    # What it starts as is the outer scheme's own to say, and held by a law; eps is Pre-LN's own field.
    assert set(ANSWERS) == (questions | set(Scheme.__annotations__)) - {"starts_as", "eps"}


@pytest.mark.parametrize("question", ANSWERS)
@pytest.mark.parametrize("name", COMPOSED)
def test_the_inner_scheme_answers(name, question):
    inner = Asked(norm="rms")
    scheme = around(name, inner)
    inner.told.clear()
    assert ANSWERS[question](scheme, inner)


def test_one_scheme_among_several_decides_by_kind_of_question():
    for one, two in ((Asked(), PreNorm()), (PreNorm(), Asked())):
        scheme = schemes.get("by-layer")(first=one, share=0.5, rest=two)
        assert scheme.needs_calibration
        assert scheme.constrains_weights
        assert not scheme.exact_gradient


# --- around the schemes that ask for most


@pytest.mark.parametrize("name", COMPOSED)
def test_around_a_calibrated_scheme_the_factors_are_measured(name):
    scheme = around(name, schemes.parse("admin(growth=profile)"))
    with pytest.raises(UserError, match="calibration"):
        small(scheme)
    model = small(scheme, calibration=tokens())
    omegas = [p for path, p in model.named_parameters() if path.endswith("omega")]
    assert model(tokens()).isfinite().all()
    assert len({round(omega[0].item(), 6) for omega in omegas}) == len(omegas) == 4
    if scheme.starts_as() == schemes.parse("admin(growth=profile)"):
        alone = small(scheme.starts_as(), calibration=tokens())
        theirs = [p for path, p in alone.named_parameters() if path.endswith("omega")]
        for omega, other in zip(omegas, theirs, strict=True):
            assert torch.equal(omega, other)


@pytest.mark.parametrize("inner", ["gpas", "n-gpt"])
@pytest.mark.parametrize("name", COMPOSED)
def test_around_a_scheme_the_gradient_is_what_it_says(name, inner):
    scheme = around(name, schemes.parse(inner))
    assert scheme.exact_gradient == (inner != "gpas" and name != "gpas")
    laws.read_and_write_have_the_right_gradient(scheme)


@pytest.mark.parametrize("name", COMPOSED)
def test_around_a_scheme_on_the_sphere_the_weights_stay_there(name):
    model = small(around(name, schemes.parse("n-gpt")), tie_embeddings=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    model.after_step_()
    for weight in (model.embedding.tokens.weight, model.stack.blocks[1].sublayer.fc1.weight):
        torch.testing.assert_close(weight.norm(dim=-1), torch.ones(len(weight)))
    assert model.scheme.optimizer_rule(SITE).weight_decay == 0


@pytest.mark.parametrize(("outer", "inner"), list(product(COMPOSED, COMPOSED)))
def test_they_nest(outer, inner):
    if outer == inner and outer in ("real-former", "value-residual"):
        with pytest.raises(UserError, match="changes the"):
            around(outer, around(inner, PreNorm()))
        return
    scheme = around(outer, around(inner, PreNorm()))
    laws.it_keeps_the_shape(scheme)
    laws.it_starts_as_it_claims(scheme)
    laws.read_and_write_have_the_right_gradient(scheme)


@pytest.mark.parametrize("name", ["real-former", "value-residual"])
def test_a_part_that_would_be_replaced_in_some_layers_only_is_refused_too(name):
    part = schemes.get("by-layer")(first=around(name, PreNorm()), share=0.5, rest=PreNorm())
    with pytest.raises(UserError, match="changes the"):
        small(around(name, part))
