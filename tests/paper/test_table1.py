"""Table 1 states the protocol that the code has."""

from remi.losses import estimators
from remi.paper import table1


def test_states_the_protocol():
    frame = table1.rows().set_index("Loss")
    assert list(frame.index) == ["MINE", "SMILE", "InfoNCE", "NWJ", "TUBA", "JS"]
    settings, regularizer, early, gaussian, benchmarks = (frame[column] for column in frame)
    assert list(frame)[-2:] == ["Fig. 7 (λ = 1)", "Table 2, Fig. 6 (λ = 0.1, 0.01, 0.001)"]
    assert settings["SMILE"] == "second term clipped at τ = 10"
    assert settings["TUBA"] == "a(y) = 1, no clip"
    assert settings["JS"] == "estimate by eq. 8"
    assert regularizer["MINE"] == "λ (log E_Q[exp T] − C*)², Euclidean, C* = 0"
    assert regularizer["NWJ"] == "λ (log E_Q[exp(T − 1)])², log-Euclidean"
    assert "C* = −5, −2, 0, 2, 5" in early["MINE"]
    assert "pins log E_Q[exp(T − 1)] or log E_Q[exp T]" in early["NWJ"]
    assert early["JS"] == "–"
    for column in (gaussian, benchmarks):
        assert column[["NWJ", "TUBA"]].tolist() == [f"{name}: both terms clipped at τ = 10" for name in ("ReNWJ", "ReTUBA")]
    assert (gaussian["SMILE"], benchmarks["SMILE"]) == ("default", "both terms clipped at τ = 10")
    assert regularizer["JS"] == "λ (log E_Q[exp T] − C*)², Euclidean, C* = 0"
    assert gaussian["JS"] == "ReJS: pins E_Q[softplus T]"
    assert benchmarks["JS"] == "estimate by NWJ; ReJS: pins E_Q[softplus T], C* = 1"


def test_has_words_for_every_choice():
    for name in estimators.NAMES:
        loss = estimators.family(name)
        for option, parameter in estimators.options(name).items():
            assert option in ("lam", "target", "tau", table1.DECIDES.get(loss)) or (option, parameter.default) in table1.WORDS
            assert option != table1.DECIDES.get(loss) or (loss, parameter.default) in table1.PINNED
