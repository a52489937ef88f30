"""The page of a report, as a file and in a browser (Debian's chromium and chromium-driver)."""

import base64
import json
import math
import re
import shutil

import cv2
import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

import reconstruct
import test as test_script
from swinsf.datasets.dat import write_dat
from swinsf.evaluation import page
from swinsf.utils.cli import UserError
from tests.conftest import gradient_scene, moving_scene, write_png

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--window-size=1100,1000",
    ),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ),
)


def contents(path):
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.S)[1]
    )


def decode(address):
    head, data = address.split(",")
    assert head == "data:image/png;base64"
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_GRAYSCALE)


@pytest.fixture(scope="module")
def dataset_page(tiny_weights, reds, tmp_path_factory):
    """(the page of test.py over two streams with another method's pictures, the folder of those pictures)."""
    folder = tmp_path_factory.mktemp("page")
    for i, name in enumerate(("200_part1_key_id151", "201_part1_key_id151")):
        picture = gradient_scene(50 + i)[1].copy()
        picture[:100, :100] += 10 * (i == 1)  # the first is the truth itself
        write_png(folder / "other" / f"{name}.png", picture)
    options = [
        "--dataset_path",
        str(reds),
        "--load_model",
        str(tiny_weights),
        "--device",
        "cpu",
        "--workers",
        "0",
    ]
    options += [
        "--report",
        "--compare",
        f"<b>Other</b>={folder / 'other'}",
        "--save_path",
        str(folder / "out"),
    ]
    assert test_script.main(options) == 0
    return folder / "out" / "report.html", folder / "other"


@pytest.fixture(scope="module")
def recording_page(tiny_weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rec")
    write_dat(folder / "rec.dat", moving_scene(250, 400, 150))
    options = [
        str(folder / "rec.dat"),
        "--load_model",
        str(tiny_weights),
        "--device",
        "cpu",
        "--stride",
        "5",
        "--report",
    ]
    assert reconstruct.main([*options, "--output", str(folder / "out.mp4")]) == 0
    return folder / "out.html"


def test_a_page_contains_everything(dataset_page):
    path, other = dataset_page
    text, data = path.read_text(), contents(path)
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']?(?!data:)\w+:?//|@import|url\(", text)
    assert "default-src 'none'" in text and "<b>" not in text
    assert data["methods"] == ["TFI", "TFP41", "TFP21", "SwinSF", "<b>Other</b>"] and data["figures"] == [
        "psnr",
        "ssim",
        "seconds",
    ]
    metrics = json.loads((path.parent / "metrics.json").read_text())
    assert data["means"]["SwinSF"]["psnr"] == metrics["means"]["SwinSF"]["psnr"]
    assert data["about"]["command"].startswith("python ") and data["about"]["protocol"] == "released"
    # The compared method is scored like ours: equal to the truth, and off by 10 grey levels on a tenth of the
    # picture.
    first, second = (row["figures"]["<b>Other</b>"] for row in data["rows"])
    assert first["psnr"] == "∞" and first["ssim"] == 1 and first["seconds"] is None
    assert second["psnr"] == pytest.approx(10 * math.log10(255**2 / (10 * 10 * 0.1)))
    assert len(data["streams"]) == 2
    for stream, row in zip(data["streams"], data["rows"]):
        pictures = stream["frames"][0]["pictures"]
        assert list(pictures) == ["spikes", *data["methods"], "ground truth"]
        # bit-identical
        shown = cv2.imread(str(path.parent / f"{row['name']}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(decode(pictures["SwinSF"]), shown)
        compared = cv2.imread(str(other / f"{row['name']}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(decode(pictures["<b>Other</b>"]), compared)


def test_the_page_of_a_recording_has_moments(recording_page):
    data = contents(recording_page)
    assert data["kind"] == "step" and data["methods"] == ["TFI", "TFP41", "TFP21", "SwinSF"]
    (stream,) = data["streams"]
    labels = [frame["label"] for frame in stream["frames"]]
    assert len(labels) == 12 and labels[0] == "step 20, 1 ms" and labels[-1] == "step 125, 6.25 ms"
    assert all(0 < row["figures"]["SwinSF"]["niqe"] < 100 for row in data["rows"])
    assert data["about"]["method"] == "swinsf"


def test_pictures_of_another_method_that_do_not_fit(tiny_weights, reds, tmp_path):
    options = [
        "--dataset_path",
        str(reds),
        "--load_model",
        str(tiny_weights),
        "--device",
        "cpu",
        "--save_path",
        str(tmp_path / "o"),
    ]
    (tmp_path / "d").mkdir()
    for name, words in (("d", r"2 of 2 pictures are missing, 200_part1_key_id151\.png for one"),):
        with pytest.raises(UserError, match=words):
            test_script.main([*options, "--compare", f"X={tmp_path / name}"])
    for taken in ("TFI", "SwinSF", "name", "spikes", "ground truth"):
        with pytest.raises(UserError, match=f"the name {taken} is taken"):
            test_script.main([*options, "--compare", f"{taken}={tmp_path / 'd'}"])
    for i in (0, 1):
        write_png(tmp_path / f"d/20{i}_part1_key_id151.png", np.zeros((25, 40), np.uint8))
    with pytest.raises(UserError, match=r"200_part1_key_id151\.png: 25x40, but the stream is 250x400"):
        test_script.main([*options, "--compare", f"X={tmp_path / 'd'}"])
    (tmp_path / "d/200_part1_key_id151.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"200_part1_key_id151\.png: not a picture"):
        page.read_compared(tmp_path / "d", "200_part1_key_id151", (250, 400))


WIDTHS = {"desk": (1280, 900), "phone": (390, 844)}


@pytest.fixture
def sized(driver):
    """A function that sets the browser's window to the size of a desktop or a phone, until the test ends."""

    def set_size(name, scale=1):
        width, height = WIDTHS[name]
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": name == "phone"}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    yield set_size
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


class Browser:
    """A page in a headless browser."""

    def __init__(self, driver, path):
        self.driver = driver
        driver.get(path.as_uri())
        self.wait(lambda: self.run("return stages.length && stages[0].pictures !== undefined"))

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, condition):
        WebDriverWait(self.driver, 20).until(lambda _: condition())

    def grey(self, x, y, stage=0):
        """The red, green and blue of a stage's canvas at the fractions x and y of its sides."""
        script = """const [i, x, y] = arguments, shown = stages[i].canvas, copy = document.createElement('canvas');
            const context = copy.getContext('2d', { willReadFrequently: true });
            context.drawImage(shown, Math.floor(x * shown.width), Math.floor(y * shown.height), 1, 1, 0, 0, 1, 1);
            return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);"""
        return self.run(script, stage, x, y)

    def box(self, selector, index=0):
        """{left, top, right, bottom, width, height} of an element in the window."""
        return self.run(
            "return document.querySelectorAll(arguments[0])[arguments[1]].getBoundingClientRect().toJSON()",
            selector,
            index,
        )

    def click(self, name, stage=0):
        """Press a stage's button by its name."""
        buttons = self.all(f"section:nth-of-type({stage + 1}) button")
        next(button for button in buttons if button.get_attribute("aria-label") == name).click()

    def drag(self, from_x, to_x, y=0.3):
        """Press, move and release. Positions are fractions of the first canvas's sides."""
        canvas = self.all("canvas")[0]
        self.run("arguments[0].scrollIntoView({block: 'center'})", canvas)
        width, height = canvas.size["width"], canvas.size["height"]
        start = ((from_x - 0.5) * width, (y - 0.5) * height)
        actions = (
            ActionChains(self.driver).move_to_element_with_offset(canvas, *map(int, start)).click_and_hold()
        )
        actions.move_by_offset(int((to_x - from_x) * width), 0).release().perform()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    if not (CHROMIUM and DRIVER):
        pytest.skip("no browser: Debian's packages chromium and chromium-driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def test_in_a_browser_the_divider_moves(driver, dataset_page):
    browser = Browser(driver, dataset_page[0])
    assert browser.run("return stages[0].titles") == ["<b>Other</b>", "SwinSF"]  # the compared method, ours
    Select(browser.all("section select")[0]).select_by_visible_text("TFP21")
    browser.wait(lambda: browser.all(".name")[0].text == "TFP21")
    pictures = {
        name: decode(address)
        for name, address in contents(dataset_page[0])["streams"][0]["frames"][0]["pictures"].items()
    }
    left, right = pictures["TFP21"][75, 100], pictures["SwinSF"][75, 300]
    assert browser.grey(0.2512, 0.302) == [left] * 3 and browser.grey(0.7512, 0.302) == [right] * 3
    browser.drag(0.5, 0.9)
    assert browser.run("return stages[0].divider") == pytest.approx(0.9, abs=0.01)
    assert browser.grey(0.7512, 0.302) == [pictures["TFP21"][75, 300]] * 3
    # The keyboard moves it too, and the others stay.
    slider = browser.all(".viewer input[type=range]")[0]
    slider.send_keys(Keys.HOME)
    assert browser.run("return [stages[0].divider, stages[1].divider]") == [0, 0.5]
    assert browser.grey(0.2512, 0.302) == [pictures["SwinSF"][75, 100]] * 3
    assert slider.get_attribute("aria-label") == "Divider between TFP21 and SwinSF"
    assert driver.get_log("browser") == []


def test_in_a_browser_all_pictures_zoom_and_move_together(driver, dataset_page):
    browser = Browser(driver, dataset_page[0])
    browser.click("Zoom in")
    assert browser.run("return view.zoom") == 1.5
    stage = browser.all(".stage")[0]
    stage.send_keys("+" + Keys.ARROW_RIGHT)
    assert browser.run("return [view.zoom, view.x, view.y]") == [2.25, pytest.approx(0.5 + 0.1 / 2.25), 0.5]
    browser.drag(0.2, 0.1, 0.8)  # far from the divider: the picture moves
    assert browser.run("return view.x") == pytest.approx(0.5 + 0.2 / 2.25, abs=0.01)
    assert browser.run("return stages[0].divider") == 0.5
    # The second stream has the same point in the middle.
    browser.run("document.querySelectorAll('section')[1].scrollIntoView()")
    browser.wait(lambda: browser.run("return stages[1].pictures !== undefined"))
    x, y = browser.run("return [view.x, view.y]")
    for i, stream in enumerate(contents(dataset_page[0])["streams"]):
        picture = decode(stream["frames"][0]["pictures"]["SwinSF"])
        column, row = int(400 * (x + 0.25 / 2.25)), int(250 * y)  # in the middle of the pixel
        place = (0.5 + 2.25 * ((column + 0.5) / 400 - x), 0.5 + 2.25 * ((row + 0.5) / 250 - y))
        assert browser.grey(*place, i) == [picture[row, column]] * 3
    stage.send_keys("0")
    assert browser.run("return [view.zoom, view.x, view.y]") == [1, 0.5, 0.5]
    assert driver.get_log("browser") == []


def test_in_a_browser_tables_sort_and_errors_show(driver, dataset_page):
    browser = Browser(driver, dataset_page[0])

    def column(table, index=0):
        return [row.find_elements(By.TAG_NAME, "td")[index].text for row in browser.all(f"#{table} tbody tr")]

    head = browser.all("#summary th button")[1]
    assert head.text == "PSNR, dB"
    head.click()
    assert browser.all("#summary th")[1].get_attribute("aria-sort") == "ascending"
    ascending = column("summary", 1)
    assert ascending == sorted(ascending, key=lambda text: math.inf if text == "∞" else float(text))
    assert ascending[-1] == "∞" and column("summary")[-1] == "<b>Other</b>"
    head.click()
    assert column("summary", 1) == ascending[::-1]
    assert column("summary", 3)[0] == "\N{EN DASH}"  # unknown seconds
    Select(browser.all("#figure")[0]).select_by_visible_text("SSIM")
    assert column("each", 2)[0] == "1.000"
    browser.all("#each th button")[0].click()
    browser.all("#each th button")[0].click()
    assert column("each") == ["201_part1_key_id151", "200_part1_key_id151"]
    # An error map of the second stream: 4 x 10 grey levels, three times as fast through red.
    browser.run("document.querySelectorAll('section')[1].scrollIntoView()")
    browser.wait(lambda: browser.run("return stages[1].pictures !== undefined"))
    Select(browser.all("#streams select")[0]).select_by_visible_text("error of <b>Other</b>")
    browser.wait(lambda: browser.grey(0.1, 0.1, 1) == [120, 0, 0])
    assert browser.grey(0.4, 0.9, 1) == [0, 0, 0]
    assert driver.get_log("browser") == []


def test_in_a_browser_a_recording_has_a_strip_over_time(driver, recording_page):
    browser = Browser(driver, recording_page)
    frames = contents(recording_page)["streams"][0]["frames"]
    buttons = browser.all(".strip button")
    assert len(buttons) == 12 and buttons[0].get_attribute("aria-pressed") == "true"
    browser.run("arguments[0].scrollIntoView()", buttons[7])
    buttons[7].click()
    picture = decode(frames[7]["pictures"]["SwinSF"])
    browser.wait(lambda: browser.grey(0.7512, 0.302) == [picture[75, 300]] * 3)
    assert [b.get_attribute("aria-pressed") for b in browser.all(".strip button")].index("true") == 7
    assert frames[7]["label"] in browser.all("canvas")[0].get_attribute("aria-label")
    assert driver.get_log("browser") == []


@pytest.mark.parametrize("size", WIDTHS)
def test_in_a_browser_the_picture_comes_first_with_its_slider_in_view(
    driver, sized, dataset_page, recording_page, size
):
    sized(size)
    for path in (dataset_page[0], recording_page):
        browser = Browser(driver, path)
        stage, slider = browser.box(".stage"), browser.box(".viewer input[type=range]")
        assert stage["top"] < WIDTHS[size][1] / 3 and stage["width"] > 0.6 * WIDTHS[size][0]
        assert stage["bottom"] <= slider["top"] and slider["bottom"] <= WIDTHS[size][1]
        assert browser.box("#summary")["top"] > slider["bottom"]
        # Ours is visible, the first of the methods.
        assert [head.text for head in browser.all("#each th")][1] == "SwinSF"
        assert browser.box("#each td", 1)["right"] <= WIDTHS[size][0]
        assert browser.all("#summary td")[0].text == "SwinSF"
        for zoom in (1, 4):  # line and handle keep their size
            browser.run("setView(arguments[0], 0.5, 0.5)", zoom)
            line = browser.run(
                "const style = getComputedStyle(stages[0].line, '::after'); return [style.width, style.height]"
            )
            assert browser.box(".divider")["width"] == 2 and line == ["28px", "28px"]
            middle = stage["left"] + stage["width"] / 2
            assert browser.box(".divider")["left"] + 1 == pytest.approx(middle, abs=0.6)


def test_in_a_browser_one_to_one_shows_one_pixel_on_one_pixel(driver, sized, recording_page):
    sized("desk")
    browser = Browser(driver, recording_page)
    pictures = {
        name: decode(address)
        for name, address in contents(recording_page)["streams"][0]["frames"][0]["pictures"].items()
    }
    browser.click("100 percent")
    assert browser.all(".controls output")[0].text == "100 %"
    shown = browser.run("""const canvas = stages[0].canvas;
        const [left, top] = [canvas.width - 400, canvas.height - 250].map(rest => Math.round(rest / 2));
        const { data } = canvas.getContext('2d').getImageData(left, top, 400, 250);
        return [canvas.getBoundingClientRect().width - canvas.width, [...data].filter((_, i) => i % 4 === 0)]""")
    assert abs(shown[0]) < 0.01
    grey = np.reshape(shown[1], (250, 400))
    np.testing.assert_array_equal(grey[:, :199], pictures["TFP21"][:, :199])
    np.testing.assert_array_equal(grey[:, 201:], pictures["SwinSF"][:, 201:])
    browser.click("Fit the picture")
    assert browser.run("return view.zoom") == 1 and browser.all(".controls output")[0].text != "100 %"
    stage = browser.all(".stage")[0]
    stage.send_keys("1")
    assert browser.all(".controls output")[0].text == "100 %"
    assert driver.get_log("browser") == []


def test_in_a_browser_an_enlarged_view_shows_pixels_or_smooths_them(driver, sized, dataset_page):
    sized("desk")
    browser = Browser(driver, dataset_page[0])
    picture = decode(contents(dataset_page[0])["streams"][0]["frames"][0]["pictures"]["SwinSF"])
    middle = """const shown = stages[0].canvas, copy = document.createElement('canvas');
        const context = copy.getContext('2d', { willReadFrequently: true });
        context.drawImage(shown, (120 - shown.width) / 2, (120 - shown.height) / 2);
        return [...context.getImageData(0, 0, 120, 120).data].filter((_, i) => i % 4 === 0)"""
    browser.run("stages[0].divide(0)")  # SwinSF alone

    def shown():
        return np.reshape(browser.run(middle), (120, 120)).astype(float)

    for times in (2, 3):
        browser.click(f"{times}00 percent")
        assert browser.all(".controls output")[0].text == f"{times}00 %"
        squares = shown()
        blocks = [np.diff(squares[:, start:]) for start in range(times)]
        assert min(np.count_nonzero(np.delete(block, np.s_[times - 1 :: times], 1)) for block in blocks) == 0
        assert set(squares.ravel()) <= set(picture.ravel())
        browser.click("Smooth enlarged pixels")
        assert (
            browser.run("return stages.map(stage => stage.smooth.getAttribute('aria-pressed'))")
            == ["true"] * 2
        )
        smooth = shown()
        assert np.abs(np.diff(smooth)).max() < np.abs(np.diff(squares)).max()
        assert smooth.mean() == pytest.approx(squares.mean(), abs=1) and np.std(smooth - squares) > 0.5
        browser.all(".stage")[0].send_keys(f"1{times}")
        np.testing.assert_array_equal(shown(), smooth)
        browser.click("Smooth enlarged pixels")
        np.testing.assert_array_equal(shown(), squares)
    assert driver.get_log("browser") == []


def test_in_a_browser_the_best_figures_are_bold(driver, dataset_page, recording_page):
    """PSNR and SSIM, where higher is better; neither seconds nor NIQE, whose limits the page explains."""
    browser = Browser(driver, dataset_page[0])
    bold = [
        [cell.get_attribute("class") for cell in row.find_elements(By.TAG_NAME, "td")]
        for row in browser.all("#summary tbody tr")
    ]
    assert [row[1:] for row in bold] == [
        ["best", "best", ""] if i == 1 else ["", "", ""] for i in range(5)
    ]  # the other is the truth
    assert not browser.all("#niqe-note")[0].is_displayed() and browser.all("#error-note")[0].is_displayed()
    browser = Browser(driver, recording_page)
    assert "NIQE" in browser.all("#summary")[0].text and not browser.all("td.best")
    assert (
        "cannot rank methods" in browser.all("#niqe-note")[0].text
        and not browser.all("#error-note")[0].is_displayed()
    )


def test_in_a_browser_exposure_brightens_all_pictures_but_no_error_map(driver, dataset_page):
    browser = Browser(driver, dataset_page[0])
    plain = [
        decode(stream["frames"][0]["pictures"]["SwinSF"])[75, 300]
        for stream in contents(dataset_page[0])["streams"]
    ]
    slider = browser.all("section input[aria-valuetext='times 1']")[0]
    slider.send_keys(Keys.ARROW_LEFT * 4)
    assert browser.grey(0.7512, 0.302) == [round(plain[0] / 2)] * 3
    slider.send_keys(Keys.END)
    assert slider.get_attribute("aria-valuetext") == "times 32" and browser.grey(0.7512, 0.302) == [255] * 3
    slider.send_keys(Keys.HOME)
    browser.run("document.querySelectorAll('section')[1].scrollIntoView()")
    browser.wait(lambda: browser.run("return stages[1].pictures !== undefined"))
    assert browser.run("return stages[1].exposure.value") == "-2"
    # it is drawn when it comes into view
    browser.wait(lambda: browser.grey(0.7512, 0.302, 1) == [round(plain[1] / 4)] * 3)
    Select(browser.all("#streams select")[0]).select_by_visible_text("error of <b>Other</b>")
    browser.wait(lambda: browser.grey(0.1, 0.1, 1) == [120, 0, 0])
    assert driver.get_log("browser") == []


def test_in_a_browser_moments_play_and_follow_the_arrow_keys(driver, recording_page):
    browser = Browser(driver, recording_page)
    index = "return stages[0].index"
    browser.all(".stage")[0].send_keys(Keys.ARROW_RIGHT * 2)
    assert browser.run(index) == 2
    browser.all(".stage")[0].send_keys(Keys.ARROW_LEFT * 3)
    assert browser.run(index) == 11  # wraps around
    browser.run("arguments[0].scrollIntoView({block: 'center'})", browser.all(".strip")[0])
    browser.all(".strip button")[11].send_keys(Keys.ARROW_LEFT)
    assert (
        browser.run(index)
        == 10
        == browser.run("return [...stages[0].strip.children].indexOf(document.activeElement)")
    )
    browser.click("Play the moments")
    browser.wait(lambda: browser.run(index) == 1)  # past the end
    browser.click("Pause")
    at = browser.run(index)
    picture = decode(contents(recording_page)["streams"][0]["frames"][at]["pictures"]["SwinSF"])
    browser.wait(lambda: browser.grey(0.7512, 0.302) == [picture[75, 300]] * 3)
    assert contents(recording_page)["streams"][0]["frames"][at]["label"] == browser.run(
        "return stages[0].moment.textContent"
    )
    assert browser.run("return new Promise(done => setTimeout(() => done(stages[0].index), 700))") == at
    # In a zoomed picture, the keys move the picture instead.
    browser.all(".stage")[0].send_keys("+" + Keys.ARROW_LEFT)
    assert browser.run(index) == at and browser.run("return view.x") < 0.5
    browser.all(".stage")[0].send_keys("0" + " ")
    assert browser.run("return stages[0].playing") > 0
    assert driver.get_log("browser") == []


def test_a_printed_page_has_every_picture(driver, dataset_page, recording_page):
    for path in (dataset_page[0], recording_page):
        frames = [frame for stream in contents(path)["streams"] for frame in stream["frames"]]
        # equal pictures are stored once
        different = {address for frame in frames for address in frame["pictures"].values()}
        browser = Browser(driver, path)
        browser.run(
            "addEventListener('beforeprint', () => { window.printed = document.querySelectorAll('#each-block table').length; })"
        )
        paper = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {})["data"])
        assert paper.count(b"/Subtype /Image") == len(different) > 10
        assert browser.run("return window.printed") == len(contents(path)["figures"])  # a table for each
        assert len(browser.all("#each-block table")) == 1
        assert not browser.all(".prints img") and not browser.run(
            "return document.getElementById('settings').open"
        )


def test_a_browser_plays_the_video(driver, recording_page, tmp_path):
    (tmp_path / "out.mp4").write_bytes(recording_page.with_suffix(".mp4").read_bytes())
    (tmp_path / "page.html").write_text('<link rel="icon" href="data:,"><video src="out.mp4" muted></video>')
    driver.get((tmp_path / "page.html").as_uri())
    driver.execute_script(
        "const v = document.querySelector('video'); v.play(); v.onended = () => { window.ended = true; };"
    )
    WebDriverWait(driver, 30).until(lambda _: driver.execute_script("return window.ended"))
    script = "const v = document.querySelector('video'); return [v.videoWidth, v.videoHeight, v.duration, v.error];"
    assert driver.execute_script(script) == [400, 250, pytest.approx(22 / 25), None]
    assert driver.get_log("browser") == []


@pytest.mark.parametrize("width", [360, 1100])
def test_in_a_browser_a_page_fits_its_width_and_every_control_has_a_name(
    driver, dataset_page, recording_page, width
):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for path in (dataset_page[0], recording_page):
            browser = Browser(driver, path)
            assert browser.run("return document.documentElement.scrollWidth") <= width
            tree = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
            controls = [
                n for n in tree if n.get("role", {}).get("value") in ("button", "slider", "combobox", "image")
            ]
            assert len(controls) > 10
            named = [n for n in controls if n.get("name", {}).get("value") or n["ignored"]]
            assert len(named) == len(controls)
        assert driver.get_log("browser") == []
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_in_a_browser_the_page_is_utf_8_and_declares_it_first(driver, dataset_page):
    """On a Chinese system, a browser assumes GBK for pages that declare no encoding."""
    head = dataset_page[0].read_bytes()[:1024]
    assert b'<meta charset="utf-8">' in head and head.isascii()
    browser = Browser(driver, dataset_page[0])
    assert browser.run("return document.characterSet") == "UTF-8"
    assert browser.all(".controls button")[1].text == "\N{MINUS SIGN}"
