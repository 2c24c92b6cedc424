"""Sources and loader: order, resuming, workers, processes, broken records."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from selfflow.config import DataConfig
from selfflow.data import DecodeError, Sample
from selfflow.data.folder import ImageFolder
from selfflow.data.loader import Batch, Loader
from selfflow.data.opening import open_loader, open_source, read_captions
from selfflow.data.packs import PackMissing, decode_picture, find, read_npz, square
from selfflow.modalities.pixels import to_pixels, to_values


class Numbers:
    """A source whose pictures are their index; `broken` ones cannot be read."""

    name = "numbers"

    def __init__(self, n=10, broken=()):
        self.n, self.broken = n, set(broken)

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if index in self.broken:
            raise DecodeError(f"record {index} is broken")
        return Sample(f"numbers/{index}", np.full((2, 2, 3), index, np.uint8), str(index))


def take(loader, batches):
    return [next(loader).ids for _ in range(batches)]


def test_every_epoch_holds_every_record_once_in_its_own_order():
    ids = [i for batch in take(Loader(Numbers(12), 4, seed=1), 9) for i in batch]
    epochs = [ids[:12], ids[12:24], ids[24:]]
    assert all(sorted(e) == sorted(epochs[0]) for e in epochs)
    assert len({tuple(e) for e in epochs}) == 3
    assert take(Loader(Numbers(12), 4, seed=2), 3) != take(Loader(Numbers(12), 4, seed=1), 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_is_exact(workers):
    whole = take(Loader(Numbers(10), 4, seed=3), 8)
    first = Loader(Numbers(10), 4, seed=3, workers=workers)
    assert take(first, 3) == whole[:3]
    state = json.loads(json.dumps(first.state_dict()))
    second = Loader(Numbers(10), 4, seed=3, workers=workers)
    next(second)  # whatever was read before is forgotten
    second.load_state_dict(state)
    assert take(second, 5) == whole[3:]


def test_processes_share_the_global_batch():
    whole = take(Loader(Numbers(10), 4, seed=3), 5)
    parts = [take(Loader(Numbers(10), 4, seed=3, rank=r, world_size=2), 5) for r in (0, 1)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_records_are_replaced_counted_and_named(workers, caplog):
    loader = Loader(Numbers(6, broken=(2, 3)), 6, seed=0, workers=workers)
    batch = next(loader)
    assert len(batch.ids) == 6
    assert not {"numbers/2", "numbers/3"} & set(batch.ids)
    assert batch.ids.count("numbers/4") == 3  # 2 and 3 are both replaced by the next readable record
    assert batch.skipped == 3  # 2 → 3 → 4, and 3 → 4
    assert loader.state_dict()["skipped"] == 3
    assert "record 2 is broken" in caplog.text


@pytest.mark.parametrize("workers", [0, 2])
def test_after_an_error_no_batch_is_lost_or_repeated(workers):
    class Failing(Numbers):
        def __getitem__(self, index):
            if index in self.broken:
                raise OSError("the disk is away")
            return super().__getitem__(index)

    whole = take(Loader(Numbers(12), 2, seed=0), 9)
    source = Failing(12, broken=(3,))
    loader, got = Loader(source, 2, seed=0, workers=workers), []
    while len(got) < 9:
        try:
            got.append(next(loader).ids)
        except OSError:
            source.broken = set()
    assert got == whole
    assert not source.broken


def test_a_mostly_broken_source_is_one_clear_error():
    broken = set(range(250)) - set(range(0, 250, 10))
    with pytest.raises(ValueError, match=r"\d+ of \d+ records of numbers tried for one batch"):
        next(Loader(Numbers(250, broken), 20, seed=0))


def test_a_source_without_a_readable_record_is_one_clear_error():
    with pytest.raises(ValueError, match="5 records in a row of numbers cannot be read"):
        next(Loader(Numbers(5, broken=range(5)), 2, seed=0))


def test_pictures_are_scaled_exactly():
    batch = Batch([Numbers()[0], Sample("x", np.full((2, 2, 3), 255, np.uint8), "")])
    pictures = to_values([s.picture for s in batch.samples])
    assert pictures.shape == (2, 3, 2, 2)
    assert pictures[0].unique().tolist() == [-1.0]
    assert pictures[1].unique().tolist() == [1.0]
    assert np.array_equal(to_pixels(pictures), np.stack([s.picture for s in batch.samples]))
    assert [b.ids for b in batch.split(2)] == [["numbers/0"], ["x"]]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda: Loader(Numbers(0), 2, 0), "no samples"),
        (lambda: Loader(Numbers(4), 3, 0, world_size=2), "cannot be shared by 2"),
        (lambda: Loader(Numbers(4), 2, 0, world_size=0), "cannot be shared by 0"),
        (lambda: Loader(Numbers(4), 2, 0, workers=-1), "workers"),
        (lambda: Loader(Numbers(4), 2, 0).load_state_dict({"position": -1, "skipped": 0}), "position -1"),
        (lambda: to_values([Numbers()[1].picture, np.zeros((3, 2, 3), np.uint8)]), "shapes"),
        (lambda: open_source(DataConfig("nowhere"), 32, "train"), "unknown source 'nowhere'"),
        (lambda: open_source(DataConfig("tabletop"), 32, "valid"), "unknown split"),
        (lambda: find("no-such-pack"), "no-such-pack is not here"),
    ],
)
def test_bad_arguments_are_named(bad, words):
    with pytest.raises((ValueError, PackMissing), match=words):
        bad()


# ------------------------------------------------------------------------------------------------------------ folders


@pytest.fixture
def folder(tmp_path):
    """Three pictures, one of them broken."""
    for i, side in enumerate((16, 40)):
        Image.fromarray(np.full((side, 2 * side, 3), 100 * i, np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    names = ["0.png", "1.png", "broken.png"]
    lines = [json.dumps({"file_name": n, "text": f"picture {n}", "other": 1}) for n in names]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_image_folder(folder):
    source = open_source(DataConfig(str(folder)), 16, "train")
    assert list(read_captions(source, 20_000)) == ["picture 0.png", "picture 1.png", "picture broken.png"]
    assert source[1].picture.shape == (16, 16, 3)
    assert source[1].picture.mean() == 100
    with pytest.raises(DecodeError, match=r"broken.png is no readable picture"):
        source[2]
    batch = next(open_loader(source, 3, seed=0))
    assert batch.skipped == 1
    with pytest.raises(ValueError, match="no test split"):
        open_source(DataConfig(str(folder)), 16, "test")


def test_image_folder_reads_csv(folder):
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").write_text("file_name,caption\n0.png,black\n")
    assert ImageFolder(folder, 16, caption_key="caption")[0].text == "black"
    (folder / "metadata.csv").write_text('file_name,text\n0.png,"two\nlines",surplus\n../x.png,out\n')
    with pytest.raises(ValueError, match=r"metadata.csv, line 4, names"):
        ImageFolder(folder, 16)
    (folder / "metadata.csv").write_text("file_name,words\n0.png,black,surplus\n")
    with pytest.raises(ValueError, match=r"line 2, has no text under \['text'\]"):
        ImageFolder(folder, 16)


def test_metadata_of_any_origin_is_read(folder, monkeypatch):
    lines = json.dumps({"file_name": "0.png", "text": "a\u2028b\x85c"}, ensure_ascii=False) + "\r\n\r\n"
    (folder / "metadata.jsonl").write_bytes(lines.encode("utf-8-sig"))
    monkeypatch.chdir(folder)
    sample = ImageFolder(".", 16)[0]
    assert sample.text == "a\u2028b\x85c"
    assert sample.id == f"{folder.name}/0.png"
    (folder / "metadata.jsonl").write_bytes('{"file_name": "0.png", "text": "café"}'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"metadata.jsonl is not UTF-8: byte"):
        ImageFolder(folder, 16)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", r"line 1, is not JSON"),
        ("[]", r"line 1, is no object"),
        ('{"file_name": "0.png"}', r"line 1, has no text under \['text'\]"),
        ('{"file_name": "../x.png", "text": ""}', r"lies outside"),
        ('{"file_name": "/etc/x.png", "text": ""}', r"lies outside"),
        ('{"file_name": "0\\u0000.png", "text": ""}', r"no file can be called"),
        ("", "without a single record"),
    ],
)
def test_bad_metadata_names_the_line(folder, line, words):
    (folder / "metadata.jsonl").write_text(line)
    with pytest.raises(ValueError, match=words):
        ImageFolder(folder, 16)


def test_decoding_and_cropping():
    transparent = io.BytesIO()
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(transparent, "PNG")
    assert decode_picture(transparent.getvalue(), "x").min() == 255  # laid on white
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200
    assert square(wide, 4).min() == 200  # the centre, not squeezed


def saved(picture, **options):
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


def test_pictures_are_turned_upright_and_16_bits_are_scaled():
    top = np.zeros((4, 4, 3), np.uint8)
    top[:2] = 255
    picture = Image.fromarray(top)
    exif = picture.getexif()
    exif[274] = 3  # held upside down
    assert np.array_equal(decode_picture(saved(picture, exif=exif), "x"), top[::-1])
    deep = Image.fromarray(np.array([[0, 257, 257 * 128, 65535]], np.uint16))
    assert decode_picture(saved(deep), "x")[0, :, 1].tolist() == [0, 1, 128, 255]


def test_damaged_npz_is_named(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK nonsense")
    with pytest.raises(ValueError, match=r"x.npz is damaged"):
        read_npz(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="damaged"):
        read_npz(tmp_path / "y.npz")


# ---------------------------------------------------------------------------------------------------------- streaming


@pytest.fixture
def stream(folder):
    pytest.importorskip("datasets", reason="needs the extra `data`")
    from selfflow.data.streaming import HubStream

    return lambda: HubStream("imagefolder", "train", size=16, data_dir=str(folder))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_streams_resume_and_skip(stream):
    whole = open_loader(stream(), 2, seed=0)
    batches = [[s.text for s in next(whole).samples] for _ in range(4)]
    assert batches[0] == ["picture 0.png", "picture 1.png"]
    assert batches == [batches[0]] * 4
    assert whole.state_dict()["skipped"] == 3  # once for each epoch begun anew
    assert list(read_captions(stream(), 20_000)) == ["picture 0.png", "picture 1.png", "picture broken.png"]
    first = open_loader(stream(), 1, seed=0)
    next(first)
    state = json.loads(json.dumps(first.state_dict()))
    second = open_loader(stream(), 1, seed=0)
    second.load_state_dict(state)
    assert [s.text for s in next(second).samples] == ["picture 1.png"]
    assert [s.text for s in next(second).samples] == ["picture 0.png"]
    assert second.state_dict()["source"]["epoch"] == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_streams_name_records_alike_after_resuming(stream):
    source = stream()
    assert len(list(read_captions(source, 20_000))) == 3
    whole = open_loader(source, 1, seed=0)  # begins at the start, though captions were read
    ids = take(whole, 6)
    assert ids == [["imagefolder/0"], ["imagefolder/1"]] * 3
    for k in (1, 2, 3):
        first, second = open_loader(stream(), 1, seed=0), open_loader(stream(), 1, seed=0)
        take(first, k)
        second.load_state_dict(first.state_dict())
        assert take(second, 6 - k) == ids[k:]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_streams_read_pictures_inside_archives(folder):
    pytest.importorskip("datasets", reason="needs the extra `data`")
    from selfflow.data.streaming import HubStream

    archive = folder / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("0.png", "1.png", "metadata.jsonl"):
            text = (folder / name).read_bytes()
            file.writestr(name, b"\n".join(text.split(b"\n")[:2]) if name == "metadata.jsonl" else text)
    samples = list(HubStream("imagefolder", size=16, data_files=str(archive)))
    assert [(s.text, int(s.picture.mean())) for s in samples] == [("picture 0.png", 0), ("picture 1.png", 100)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_missing_columns_are_named(folder):
    pytest.importorskip("datasets", reason="needs the extra `data`")
    from selfflow.data.streaming import HubStream

    with pytest.raises(ValueError, match=r"no columns \['words'\]"):
        HubStream("imagefolder", "train", text_key="words", size=16, data_dir=str(folder))


# -------------------------------------------------------------------------------------------------------------- emoji


@pytest.fixture
def emoji():
    from selfflow.data.emoji import Emoji

    try:
        find("emoji64")
    except PackMissing as error:
        pytest.skip(str(error))
    return Emoji


def test_emoji_splits_are_as_published_and_disjoint(emoji):
    sources = {split: emoji(split) for split in ("train", "test_concept", "test_combo")}
    assert {k: len(v) for k, v in sources.items()} == {"train": 18840, "test_concept": 2668, "test_combo": 999}
    rows = [set(s.rows.tolist()) for s in sources.values()]
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]
    seen = {s.meta["style"] for s in (emoji(permissive_only=True).at(int(r)) for r in sources["train"].rows[:3])}
    assert seen <= set(range(7))
    assert len(emoji(permissive_only=True)) == len(emoji()) - len(emoji(styles=["openmoji"]))


def test_emoji_captions_tell_style_and_variant(emoji):
    source = emoji("test_combo")
    for row in source.rows[:200].tolist():
        record, text = source.record(row), source.text(row)
        assert source.style_words[int(source.arrays["style"][row])] in text
        assert record["name"].split(":")[-1].strip() in text
    train = emoji()
    forms = {train.text(int(r), v) for r in train.rows[:1] for v in (0, 1, 2)}
    assert len(forms) == 3
    assert train[5].text == train[5].text
    assert train[0].picture.shape == (64, 64, 3)
    assert len(list(read_captions(train, 20_000))) == 18840


def test_emoji_families(emoji):
    source = emoji()
    families = source.families()
    assert len(families) == 1876
    assert sum(map(len, families.values())) == 22545
    with pytest.raises(ValueError, match="unknown styles"):
        emoji(styles=["apple"])
    with pytest.raises(ValueError, match="unknown split"):
        emoji("test")
    with pytest.raises(ValueError, match="leave nothing"):
        emoji(styles=["openmoji"], permissive_only=True)


def test_loading_is_deterministic_to_the_bit(emoji):
    a, b = (next(Loader(emoji(), 4, seed=0, workers=w)) for w in (0, 2))
    assert a.ids == b.ids
    assert all(np.array_equal(x.picture, y.picture) for x, y in zip(a.samples, b.samples, strict=True))
