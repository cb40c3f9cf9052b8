"""What `podium bench` makes of what it measures: its texts, its figures, its tables."""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import texts
from cli.bench import (
    arms,
    cache,
    cost,
    figures,
    growth,
    lanes,
    lengths,
    machine,
    overhead,
    peers,
    plots,
    report,
    throughput,
    wire,
)
from cli.bench.report import Output
from cli.bench.room import cache_off, flags
from jobs.errors import ConfigurationError
from jobs.model import Document, Work
from jobs.settings import Settings, load
from worker import profiles, prompts
from worker.engines.fake import WordTokenizer

ROUNDS = [
    {
        "llm": 100.0,
        "one_job": 20.0,
        "async_llm": 80.0,
        "service": 90.0,
        "uncoalesced": 30.0,
        "vllm_serve": 60.0,
    },
    {
        "llm": 50.0,
        "one_job": 10.0,
        "async_llm": 70.0,
        "service": 45.0,
        "uncoalesced": 15.0,
        "vllm_serve": 30.0,
    },
    {
        "llm": 200.0,
        "one_job": 40.0,
        "async_llm": 90.0,
        "service": 100.0,
        "uncoalesced": 40.0,
        "vllm_serve": 50.0,
    },
]


def test_no_text_is_anothers_beginning_and_a_seed_says_them_all() -> None:
    asked = [*texts.questions(1, 40, 5), *texts.questions(2, 40, 5)]
    words = [text.split() for query, documents in asked for text in (query, *documents)]
    assert len({text[0] for text in words}) == len(words) == 2 * 40 * 6
    assert all(15 <= len(text) <= 40 for query, documents in asked for text in map(str.split, documents))
    assert texts.questions(1, 40, 5) == asked[:40]
    assert texts.pairs(asked) == 400


def test_seeds_of_rounds_and_warmings_never_meet() -> None:
    """Else a cache would have seen in one round what is measured in another."""
    asked: list[int] = []

    def run(_: object, __: int | None) -> float:
        return 1.0

    def questions(seed: int, jobs: int, documents: int) -> list[texts.Question]:
        asked.append(seed)
        return [("q", ["d"] * documents)] * jobs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "questions", questions)
        bench = throughput.Bench(
            {"one_job": run, "service": run},
            lambda _: None,
            frozenset({"one_job"}),
            frozenset({"service"}),
            {},
            0,
        )
        for documents in throughput.DOCUMENTS:
            jobs = 1_000 // documents
            seed = (1_009 + documents) * 1_000_000
            throughput.best(run, jobs, documents, seed)
            for arm, number in itertools.product(("one_job", "service"), range(9)):
                throughput._asked(arm, bench, seed + 900_000 + number, jobs, documents)
    assert len(set(asked)) == len(asked)


def test_rendered_texts_are_what_a_worker_reads() -> None:
    profile = profiles.load("qwen3-reranker-0.6b", load({}).models_dir)
    (question,) = texts.questions(3, 1, 4)
    work = Work(query=question[0], documents=tuple(Document(text=text) for text in question[1]))
    tokenizer = WordTokenizer()
    built = prompts.build(work, profile, tokenizer, 8_192)
    # The word tokenizer splits at spaces: pieces that touch without one are compared without them.
    assert len(built.sequences) == len(texts.texts_of(profile, question)) == 4
    head, tail = texts.rendered(profile, question[0])
    assert question[0] in head
    assert (profile.instruction or "") in head
    assert profile.template is not None
    assert head.startswith(profile.template.prefix)
    assert tail == profile.template.suffix
    assert texts.texts_of(profiles.load("minilm", load({}).models_dir), question) == [
        question[0],
        *question[1],
    ]


def test_ratios_are_paired_and_medians_are_of_all_rounds() -> None:
    row = throughput.row("m", 5, ROUNDS, {"service": 32}, 1e-7)
    assert row["better_engine"] == "llm"
    assert (row["engine_pairs_per_s"], row["llm_pairs_per_s"], row["async_llm_pairs_per_s"]) == (100, 100, 80)
    assert (row["service_pairs_per_s"], row["uncoalesced_pairs_per_s"]) == (90, 30)
    assert row["throughput_ratio"] == 0.9  # 0.9, 0.9, 0.5
    assert row["engine_gain"] == 5
    assert row["coalescing_gain"] == 3  # 3, 3, 2.5
    assert row["coalescing_share"] == 0.6
    assert row["against_vllm_serve"] == 1.5
    assert row["bare_pairs_per_s"] is row["against_bare"] is row["bare_ratio"] is None  # it was not asked for
    assert len(row["rounds"]) == 3
    json.dumps(row)


def test_the_fake_engines_row_has_no_vllm() -> None:
    rounds = [{"engine": 100.0, "one_job": 20.0, "service": 90.0, "uncoalesced": 30.0, "bare": 95.0}]
    row = throughput.row("fake-gpu", 5, rounds, {}, 0.0)
    assert (row["better_engine"], row["engine_pairs_per_s"], row["throughput_ratio"]) == ("engine", 100, 0.9)
    assert row["engine_gain"] == 5
    assert row["vllm_serve_pairs_per_s"] is row["against_vllm_serve"] is row["llm_pairs_per_s"] is None
    assert (row["bare_pairs_per_s"], row["bare_ratio"], row["against_bare"]) == (95, 0.95, 0.9474)


def test_a_bench_that_is_stopped_keeps_the_rows_that_it_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(_: throughput.Options, rows: list[dict[str, Any]], __: dict[str, Any]) -> None:
        rows.append({**throughput.row("fake-gpu", 5, ROUNDS, {}, 0), "others_cpu_share": 0.0})
        raise KeyboardInterrupt

    monkeypatch.setattr(throughput, "_measure_all", stopped)
    report = tmp_path / "report.json"
    with pytest.raises(KeyboardInterrupt):
        throughput.throughput(throughput.Options(("fake-gpu",), (5, 20)), Output(json=report))
    (row,) = json.loads(report.read_text())["rows"]
    assert (row["docs_per_job"], row["llm_pairs_per_s"]) == (5, 100)
    assert "before 1 more rows were measured" in " ".join(capsys.readouterr().out.split())


def test_jobs_in_flight_are_never_more_than_there_are() -> None:
    assert throughput.at_once_of(1_000, 1) == [32, 128, 512]
    assert throughput.at_once_of(10, 100) == [2, 5]
    assert throughput.at_once_of(1, 5_000) == [1]


def test_core_time_is_charged_to_parts_and_busy_threads_of_a_worker_are_its_engine() -> None:
    def ran(**threads: tuple[float, float]) -> cost.Threads:
        """Milliseconds by part and thread: `api_1` is the first of the API."""
        named = ((name.rsplit("_", 1), found) for name, found in threads.items())
        return {(p, int(n)): cost.Ran(int(a * 1e6), int(b * 1e6)) for (p, n), (a, b) in named}

    before = ran(api_1=(500, 7), worker_1=(900, 50), worker_2=(10, 0), valkey_1=(3, 3))
    after = ran(
        api_1=(540, 9),
        worker_1=(1_800, 90),
        worker_2=(30, 9),
        worker_3=(249, 9),  # new, and not busy for more than a quarter of the second
        valkey_1=(9, 3),
        engine_1=(100, 10),  # a process of its own
        client_1=(2, 1),
    )
    found = cost.split(before, after, seconds=1.0)
    assert {part: took / 1e6 for part, took in found.items() if took} == {
        "api": 40,
        "worker": 20 + 249,
        "valkey": 6,
        "client": 2,
        "engine": 900 + 100,
        "engine_waited": 40 + 10,
        "all": 40 + 269 + 6 + 2,
    }
    assert found["callbacks"] == 0


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("/venv/bin/python -m cli api --host=127.0.0.1 --port=8000 --no-page ", "api"),
        ("/venv/bin/python -m bench.bare api --port=8000 --model=tiny-qwen3", "api"),
        ("[celeryd: score-4236@vm:MainProcess] -active- (worker score)", "worker"),
        ("[celeryd: celery@vm:MainProcess] -active- (worker --model=tiny-qwen3)", "worker"),
        ("[celeryd: callbacks-4237@vm:MainProcess] -active- (worker callbacks)", "callbacks"),
        ("/venv/bin/python -m cli up --port=8000 --model=tiny-qwen3", "callbacks"),
        ("/some/where/valkey-server 127.0.0.1:6379", "valkey"),
        ("VLLM::EngineCore", "engine"),
        ("", "callbacks"),
    ],
)
def test_a_process_is_known_by_its_command_line(command: str, part: str) -> None:
    assert arms.part_of(command) == part


def test_percentiles_and_slopes() -> None:
    assert [figures.percentile([3, 1, 2, 4], share) for share in (0, 0.5, 0.51, 0.95, 1)] == [1, 2, 3, 4, 4]
    assert figures.percentile([7], 0.5) == 7
    assert figures.line([(1, 12.0), (10, 30.0), (100, 210.0)]) == pytest.approx((10, 2))
    assert figures.growth([4.0, 5.0, 4.5]) == 0.25
    assert figures.short(1234.567) == 1235
    assert figures.short(None) is None
    assert figures.divided(1, 0) is None
    assert figures.paired_ratio(ROUNDS, "service", "nothing") is None


def test_overhead_is_a_difference_of_pairs() -> None:
    pairs = [{"service_ms": 20.0 + n, "engine_ms": 10.0} for n in range(20)]
    rounds = [{"jobs_per_s": 500.0, "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0}]
    drop_in = [{"rerank_ms": 31.0, "job_ms": 30.0}] * 3
    found = overhead.summary(pairs, drop_in, rounds)
    assert (found["overhead_p50_ms"], found["overhead_p95_ms"]) == (19, 28)
    assert (found["accept_jobs_per_s"], found["accept_p99_ms"]) == (500, 3)
    assert (found["rerank_p50_ms"], found["job_p50_ms"]) == (31, 30)
    assert [row["figure"] for row in overhead.table(pairs, drop_in, rounds)][
        -1
    ] == "POST /v1/jobs under load, ms"


def test_what_bulk_loses_is_what_nobody_had() -> None:
    assert lanes.bulk_loss(100, 80, 10) == 0.1
    assert lanes.bulk_loss(100, 95, 10) == -0.05  # the machine was faster meanwhile
    found = lanes.summary(lanes.Found([10.0] * 4, [20.0] * 4, 110, 80, 90, 10))
    assert (found["interactive_ratio"], found["bulk_alone_documents_per_s"], found["bulk_loss"]) == (
        2,
        100,
        0.1,
    )


def test_a_length_has_its_share_of_the_peak() -> None:
    row = lengths.row(512, 500, [100.0, 100.0], 900, 4_000_000_000, 70)
    assert (row["mean_ms"], row["queries_per_s"], row["tokens_per_s"]) == (100, 10, 5_000)
    assert row["share_of_peak"] == pytest.approx(2 * 4e9 * 5_000 / 70e12, rel=1e-3)
    assert lengths.row(512, 500, [100.0], 900, None, 70)["share_of_peak"] is None


@pytest.mark.parametrize(
    ("gpu", "peak"),
    [
        ("NVIDIA A10G, 23028 MiB, 570.1", 70),
        ("NVIDIA A100-SXM4-80GB, 81920 MiB, 570.1", 312),
        ("NVIDIA H100 80GB HBM3, 81559 MiB, 570.1", 989),
        ("NVIDIA H100 PCIe, 81559 MiB, 570.1", None),
        ("NVIDIA L4, 23034 MiB, 570.1", 121),
        ("NVIDIA L40S, 46068 MiB, 570.1", 362),
        ("NVIDIA A10, 23028 MiB, 570.1", None),
    ],
)
def test_peaks_are_those_of_the_very_card(gpu: str, peak: float | None) -> None:
    assert machine.peak_tflops(gpu) == peak


def test_growth_compares_what_is_beyond_the_fixed_cost() -> None:
    jobs: list[dict[str, Any]] = [
        {"documents": 1, "job_ms": 10.0, "marginal_ms_per_document": None},
        {"documents": 10, "job_ms": 11.0, "marginal_ms_per_document": 0.3},
        {"documents": 100, "job_ms": 20.0, "marginal_ms_per_document": 0.1},
        {"documents": 1_000, "job_ms": 130.0, "marginal_ms_per_document": 0.12},
    ]
    queue = [
        {"waiting": 100, "bytes_per_job": 20_000, "store_ms": 1.0, "claim_ms": 1.0},
        {"waiting": 1_000, "bytes_per_job": 9_000, "store_ms": 1.1, "claim_ms": 1.0},
        {"waiting": 10_000, "bytes_per_job": 9_900, "store_ms": 1.0, "claim_ms": 1.2},
    ]
    found = growth.summary(jobs, queue)
    assert found["time_per_document_growth"] == 0.2
    assert (found["bytes_per_job"], found["memory_per_job_growth"]) == (9_900, 0.1)
    assert growth.summary(jobs, [])["memory_per_job_growth"] is None
    assert growth.depths_of(100_000) == [100, 1_000, 10_000, 100_000]
    assert growth.depths_of(0) == []
    assert growth.marginal((1, 10.0), (101, 20.0)) == 0.1


def test_a_peer_that_is_not_installed_has_a_row_that_says_so() -> None:
    rounds = [{peers.PODIUM: 100.0, peers.SERVER: 50.0}]
    rows = peers.rows_of(rounds, {peers.PODIUM: 8}, {peers.SERVER: 1e-7}, {peers.LIBRARY: "not installed"})
    assert [row["podium_over_it"] for row in rows] == [1, 2, None]
    assert rows[2]["note"] == "not installed"


def test_a_second_run_is_compared_with_its_own_first_one() -> None:
    rounds = [
        {"first": 100.0, "second": 1_200.0},
        {"first": 50.0, "second": 1_000.0},
        {"first": 80.0, "second": 800.0},
    ]
    found = cache.row(20, rounds, [0.0, 2e-7, 1e-7])
    assert (found["first_pairs_per_s"], found["second_pairs_per_s"], found["cache_gain"]) == (80, 1_000, 12)
    assert found["largest_score_difference"] == 2e-7, "the worst of all rounds"


def test_the_machine_is_described(tmp_path: Path) -> None:
    about = machine.describe()
    assert about["cores"] >= 1
    assert about["versions"]["podium"]
    assert {"cpu", "memory_gib", "gpus", "python", "system", "load_before"} <= about.keys()
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nmodel name\t: another\n")
    assert machine.cpu_model(cpuinfo) == "A CPU @ 2 GHz"
    json.dumps(about)


def test_a_table_is_markdown_to_be_pasted() -> None:
    columns = [report.Column("who", "who"), report.Column("rate", "pairs/s", 1)]
    assert report.markdown([{"who": "a", "rate": 1234.56}, {"who": "b"}], columns) == (
        "| who | pairs/s |\n|---|---|\n| a | 1,234.6 |\n| b | - |"
    )


def test_plots_without_matplotlib_are_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigurationError, match="plots need matplotlib"):
        report.Output(plots=tmp_path / "plots").check()
    with pytest.raises(ConfigurationError, match="can't be written"):
        report.Output(json=tmp_path / "gone" / "x.json").check()
    with pytest.raises(ConfigurationError, match="matplotlib"):
        plots.check_installed()


def test_engine_arguments_as_options_of_vllms_server() -> None:
    arguments = {
        "model": "x",
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "disable_log_stats": False,
        "hf_overrides": {"a": ["b"]},
        "max_num_batched_tokens": 1_024,
    }
    assert flags(arguments) == [
        "--model=x",
        "--enforce-eager",
        "--no-enable-prefix-caching",
        '--hf-overrides={"a": ["b"]}',
        "--max-num-batched-tokens=1024",
    ]


def test_the_cache_is_off_where_there_is_one() -> None:
    assert bool(cache_off()) == ("cache" in Settings.model_fields)


def test_a_request_is_prepared_whole() -> None:
    sent = wire.request("POST", "/v1/jobs", {"a": "é"}, Prefer="wait=60")
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/jobs HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Prefer: wait=60" in head
    assert json.loads(body) == {"a": "é"}
