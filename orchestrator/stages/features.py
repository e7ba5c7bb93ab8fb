"""The stage of the features: shards of log-mel, and a map of them on each machine that trains."""

from functools import partial
from pathlib import Path

from orchestrator.config.keys import key_of
from orchestrator.stages.computed import COMPUTED_BY, Computed, compute, with_whole_shards
from orchestrator.stages.context import Context, announce_restart, basis, published, record
from orchestrator.stages.cuts import prepare
from orchestrator.stages.near_copies import read_near_copies, warn_of, write_near_copies
from orchestrator.storage.work import working


def run(context: Context) -> tuple[Computed, Path]:
    """Compute what is missing and publish the manifests; return what there is and the artifact."""
    config, store = context.config, context.store
    key = key_of(
        basis(*COMPUTED_BY),
        config.corpus,
        config.validation.folds,
        config.features,
        config.spectrum,
        config.kinds_of_copies,
        config.copies,
    )
    announce_restart(context, "features", key)
    with context.view.stage("features") as bar, working(store, "features", key, bar.wait, bar.so_far) as work:
        bar.is_reused = True

        def show(text: str, done: int, total: int) -> None:
            bar.is_reused = False
            bar.update(done, total, f"{done} of {total} {text}")

        computed = compute(config, store, partial(show, "clips"))
        manifest = computed.manifest
        key = computed.key()
        if store.finished("features", key) is None:
            bar.is_reused = False
            with store.publish("features", key) as target:
                (target / "manifest.json").write_text(manifest.to_json())
                for kind, copy in computed.copies.items():
                    (target / f"manifest-{kind}.json").write_text(copy.to_json())
                with_whole_shards(
                    config, store, lambda: write_near_copies(target, manifest, store.shards, computed.clips)
                )
                record(target, work.seconds, clips=manifest.clips)
        folder = published(store, "features", key)
        bar.made_in(folder)
        prepare(config, computed, store, partial(show, "clips mapped"))
        refused = f", {len(computed.quarantine)} quarantined" if computed.quarantine else ""
        extra = f", copies: {', '.join(computed.copies)}" if computed.copies else ""
        bar.about(f"{manifest.clips} clips{refused}{extra}")
        work.discard()
    warn_of(read_near_copies(folder), context.view.line)
    return computed, folder
