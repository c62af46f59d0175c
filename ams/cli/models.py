"""`ams models`: bring your own ONNX file, see what is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(help="Import, list and inspect models (ONNX file + card).", no_args_is_help=True)


def default_store() -> Path:
    """AMS_MODELS_DIR, else the user's data directory."""
    if os.environ.get("AMS_MODELS_DIR"):
        return Path(os.environ["AMS_MODELS_DIR"])
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / "ams" / "models"


ModelsDir = Annotated[
    Path, typer.Option("--models-dir", envvar="AMS_MODELS_DIR", help="The model store.", default_factory=default_store)
]


def _triple(text: str, option: str) -> tuple[float, float, float]:
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError as error:
        example = "0.485,0.456,0.406"
        raise typer.BadParameter(f"{option} takes three numbers, for example {example}; got {text!r}") from error
    return first, second, third


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="An ONNX file: one float32 NCHW input, scores per class as output.")],
    role: Annotated[Literal["teacher", "student"], typer.Option(help="What the model is for.")],
    classes: Annotated[
        str,
        typer.Option(help="Classes in the order of the output's channels: cityscapes, camvid, voc, single names, or "
                     "several joined by commas, for example 'cityscapes,background'."),
    ],
    models_dir: ModelsDir,
    name: Annotated[str | None, typer.Option(help="Name of the model; the file's name by default.")] = None,
    subset: Annotated[
        str | None,
        typer.Option(help="Classes that matter on your scene, joined by commas: only they are predicted, trained and "
                     "scored. All by default."),
    ] = None,
    mean: Annotated[str, typer.Option(help="Mean per channel, after scaling.")] = "0.485,0.456,0.406",
    std: Annotated[str, typer.Option(help="Standard deviation per channel, after scaling.")] = "0.229,0.224,0.225",
    scale: Annotated[float, typer.Option(help="Factor on pixels 0..255 before mean and std.")] = 1 / 255,
    channels: Annotated[Literal["rgb", "bgr"], typer.Option(help="Order of the input's channels.")] = "rgb",
    class_map: Annotated[
        list[str] | None,
        typer.Option(help="For a student: TEACHER_CLASS=STUDENT_CLASS, may be repeated; equal names map anyway."),
    ] = None,
    output: Annotated[str | None, typer.Option(help="Name of the output, if the file has several.")] = None,
    output_kind: Annotated[
        Literal["logits", "probabilities"] | None, typer.Option(help="What the output holds; found out by default.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Licence of the weights, for the card.")] = "unknown",
    matmul: Annotated[bool, typer.Option(help="Also train constant matrices of MatMul nodes.")] = False,
    fold_batch_norm: Annotated[
        bool, typer.Option(help="Fold batch normalisation into convolutions where possible (faster, more accurate).")
    ] = True,
) -> None:  # fmt: skip
    """Put an ONNX file into the model store, with a card that says all that AMS must know about it.

    \b
    ams models import student.onnx --role student --classes cityscapes,background --subset road,person,car
    ams models import teacher.onnx --role teacher --classes cityscapes
    """
    from ams.models.onnx_import import ImportRequest, import_onnx
    from ams.models.store import DirectoryStore
    from ams.models.taxonomy import parse_classes

    names, palette = parse_classes(classes)
    pairs = dict(pair.split("=", 1) for pair in class_map or () if "=" in pair)
    if len(pairs) != len(class_map or ()):
        raise typer.BadParameter("--class-map takes TEACHER_CLASS=STUDENT_CLASS")
    request = ImportRequest(
        role=role,
        name=name or file.stem,
        classes=names,
        palette=palette,
        subset=tuple(part.strip() for part in subset.split(",")) if subset else None,
        class_map=pairs or None,
        channels=channels,
        scale=scale,
        mean=_triple(mean, "--mean"),
        std=_triple(std, "--std"),
        output=output,
        output_kind=output_kind,
        licence=licence,
        matmul=matmul,
        fold_batch_norm=fold_batch_norm,
    )
    report = import_onnx(file, request)
    model_id = DirectoryStore(models_dir).put(report.bundle)
    card = report.bundle.card
    typer.echo(f"{card.name}: {role}, {card.input.width}x{card.input.height}, {len(card.classes)} classes, "
               f"{card.output.kind} at stride {card.output.stride}")  # fmt: skip
    if role == "student":
        typer.echo(
            f"  streams {report.streamed_weights:,} weights in {report.streamed_tensors} tensors "
            f"({report.norm_affine_weights:,} of normalisation); "
            f"{report.folded_batch_norms} batch norms folded, {report.kept_batch_norms} kept with frozen statistics"
        )
        typer.echo(
            f"  snapped to the integer grid: largest output difference {report.largest_difference:.2g}, "
            f"labels agree in {report.label_agreement:.4%} of the pixels"
        )
    typer.echo(f"  model_id {model_id}")
    typer.echo(f"  kept in {models_dir}")


@app.command("list")
def list_(models_dir: ModelsDir) -> None:
    """List the models in the store."""
    from rich.console import Console
    from rich.table import Table

    from ams.models.store import DirectoryStore

    models = DirectoryStore(models_dir).list()
    if not models:
        typer.echo(f"No models in {models_dir}. Add one: ams models import FILE.onnx --role student --classes ...")
        return
    table = Table("name", "role", "input", "classes", "streamed weights", "model_id")
    for model_id, card in models:
        streamed = sum(p.size for p in card.parameters if p.kind.streamed)
        size = f"{card.input.width}x{card.input.height}"
        weights = f"{streamed:,}" if streamed else ""
        table.add_row(card.name, card.role, size, str(len(card.classes)), weights, model_id[:12])
    Console().print(table)


@app.command()
def inspect(
    model: Annotated[str, typer.Argument(help="Name, model_id (or its first 8 digits) or directory.")],
    models_dir: ModelsDir,
    json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Show a model's card: what it takes, what it answers, which weights are streamed."""
    from rich.console import Console
    from rich.table import Table

    from ams.models.store import DirectoryStore

    bundle = DirectoryStore(models_dir).get(model)
    if json:
        typer.echo(bundle.card.model_dump_json(indent=2))
        return
    card = bundle.card
    console = Console()
    console.print(f"[bold]{card.name}[/bold]  {card.role}  model_id {bundle.model_id}")
    console.print(
        f"input {card.input.name!r}: {card.input.width}x{card.input.height} {card.input.channels}, "
        f"(pixel * {card.input.scale:.6g} - {card.input.mean}) / {card.input.std}, "
        f"{'any batch' if card.input.dynamic_batch else 'batch 1'}"
    )
    console.print(f"output {card.output.name!r}: {card.output.kind} at stride {card.output.stride}")
    console.print(f"classes: {', '.join(card.classes)}")
    if card.subset:
        console.print(f"subset: {', '.join(card.subset)}")
    console.print(f"licence: {card.licence}")
    if card.parameters:
        table = Table("tensor", "shape", "kind", "grid")
        for parameter in card.parameters:
            shape = "x".join(str(side) for side in parameter.shape) or "scalar"
            table.add_row(parameter.name, shape, parameter.kind.value, f"2^{parameter.exponent}")
        console.print(table)
