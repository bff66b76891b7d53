"""The status page in a real browser, whatever names a cloud has."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from pipelines.release.cloud_images import Row
from pipelines.release.drift import Drift
from pipelines.reports import charts, status_page
from pipelines.reports.charts import Column
from pipelines.reports.status_page import History
from pipelines.util.errors import CloudError, HostError
from pipelines.workflows.status import ImageStatus, Survey
from tests.support.cloud_fixtures import NOW, site

HOSTILE = "<img src=http://127.0.0.1:9/x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
LONG = "x" * 300


def seen(number: int, **changed: Any) -> ImageStatus:
    """An image; the ones with a higher number are larger."""
    about = {
        "cloud": "prod",
        "variant": f"variant-{number}",
        "build_id": f"2026112{number}T120000Z-0123abcd",
        "fingerprint": "f",
        "release_digest": "d",
        "id": f"00000000-0000-0000-0000-{number:012d}",
        "name": f"variant-{number}",
        "state": "current",
        "visibility": "private",
        "created_at": "2026-11-21T12:00:00Z",
        "whose": "ours",
        "note": "",
    }
    drift = changed.pop("drift", ())
    return ImageStatus(row=Row(**(about | changed)), size=number * 900 * 2**20, driver="580.95.05", drift=drift)


def history() -> History:
    times = [Column(label=f"day {day}", parts={"base": 60.0 + day, "driver": 100.0, HOSTILE: 10.0}) for day in range(9)]
    drawn = charts.stacked("Build time", times, "s")
    assert drawn is not None
    return History(variant="variant-1", description=HOSTILE, builds=9, pictures=(drawn,))


def page() -> str:
    wrong = (
        Drift(what="visibility", wanted="private", found="public", repairable=True),
        Drift(what=f"property {LONG}", wanted="none", found=HOSTILE),
    )
    theirs = seen(3, name=HOSTILE, whose=f"project {LONG}", state="foreign")
    prod = Survey(cloud="prod", images=(seen(2), seen(10), seen(1, drift=wrong), theirs), absent=("variant-9",))
    gone = Survey(cloud="edge", failed=CloudError(f"edge: {HOSTILE}", remedy="Look."))
    return status_page.page([prod, gone], [history()], NOW)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Debian's Chromium, without a window, with the page opened on a telephone."""
    folder = tmp_path_factory.mktemp("browser")
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("headless", "disable-gpu", "disable-background-networking", f"user-data-dir={folder}/data"):
        options.add_argument(f"--{argument}")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    (folder / "status.html").write_text(page(), encoding="utf-8")
    telephone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", telephone)
    driver.get("about:blank")
    driver.get_log("performance")  # what the browser's own first page asked for
    driver.get((folder / "status.html").as_uri())
    yield driver
    driver.quit()


def column(browser: webdriver.Chrome, name: str) -> list[str]:
    cells = browser.find_elements(By.CSS_SELECTOR, f'#images tbody td[data-label="{name}"]')
    return [cell.text for cell in cells]


def test_the_page_asks_the_network_for_nothing_and_complains_of_nothing(browser: webdriver.Chrome) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in sent if not url.startswith("data:")] == [browser.current_url]
    assert browser.get_log("browser") == []


def test_what_is_hostile_is_shown_as_text_and_does_nothing(browser: webdriver.Chrome) -> None:
    assert browser.title == "Images in prod, edge"
    assert browser.find_elements(By.TAG_NAME, "img") == []
    assert any(HOSTILE in text for text in column(browser, "in Glance"))
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 1


def test_it_fits_a_telephone(browser: webdriver.Chrome) -> None:
    widths = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert widths == [360, 360]


def test_a_click_sorts_by_number_and_another_the_other_way(browser: webdriver.Chrome) -> None:
    size = next(each for each in browser.find_elements(By.CSS_SELECTOR, "#images th button") if each.text == "size")
    size.click()
    assert column(browser, "size") == ["–", "900 MiB", "1,800 MiB", "2,700 MiB", "9,000 MiB"]
    size.click()
    assert column(browser, "size") == ["9,000 MiB", "2,700 MiB", "1,800 MiB", "900 MiB", "–"]
    name = next(each for each in browser.find_elements(By.CSS_SELECTOR, "#images th button") if each.text == "image")
    name.click()
    assert column(browser, "image") == ["variant-1", "variant-2", "variant-3", "variant-9", "variant-10"]


def test_drift_stands_out_with_what_can_be_repaired(browser: webdriver.Chrome) -> None:
    [row] = browser.find_elements(By.CSS_SELECTOR, "#images tr.drift")
    other = browser.find_element(By.CSS_SELECTOR, "#images tbody tr:not(.drift)")
    assert row.value_of_css_property("background-color") != other.value_of_css_property("background-color")
    assert "visibility: public, not private --fix repairs it" in row.text


def test_it_is_dark_where_the_system_is(browser: webdriver.Chrome) -> None:
    def paper(scheme: str) -> str:
        feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
        return browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")

    assert (paper("light"), paper("dark")) == ("rgba(255, 255, 255, 1)", "rgba(20, 24, 28, 1)")


def test_the_pictures_are_drawn_to_scale_and_say_what_they_show(browser: webdriver.Chrome) -> None:
    bars = browser.find_elements(By.CSS_SELECTOR, "figure > svg rect")
    assert len(bars) == 9 * 3
    assert all(bar.size["height"] > 0 for bar in bars)
    assert "day 0 · base: 60 s" in browser.page_source
    assert "newest 178 s, most 178 s" in browser.page_source


def test_a_cloud_that_failed_and_a_variant_that_is_missing_are_shown(browser: webdriver.Chrome) -> None:
    assert browser.find_element(By.CSS_SELECTOR, ".failed").text.startswith("edge: edge: <img")
    assert "not there" in column(browser, "state")


def test_nothing_is_drawn_of_no_builds_and_of_builds_without_times() -> None:
    assert charts.stacked("Build time", [], "s") is None
    assert charts.stacked("Build time", [Column(label="day", parts={})], "s") is None


def test_a_page_that_cannot_be_written_is_the_hosts_fault(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot write"):
        status_page.write(tmp_path / "none" / "status.html", site([], tmp_path), [], [], NOW)
