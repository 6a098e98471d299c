"""The page as a person uses it: `page.py URL TOKEN ROOT SHOTS IMAGE`

Chromium without a window signs in, sends IMAGE, follows the conversion, downloads what came of it into SHOTS, looks inside it
and another one, and sees a job fail and tries it again. Each part is held to axe's rules of accessibility, in light and dark, and photographed. An error in the
browser's console, a violation of the policy for scripts among them, fails the run.
"""

import pathlib
import sys

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

URL, TOKEN = sys.argv[1:3]
ROOT, SHOTS, IMAGE = map(pathlib.Path, sys.argv[3:6])
AXE_FILE = pathlib.Path(__file__).parents[4] / "target/witness-node/node_modules/axe-core/axe.min.js"
if not AXE_FILE.exists():
    sys.exit(f"{AXE_FILE} is missing: run `cargo xtask setup`")
AXE = AXE_FILE.read_text()
WAIT = 30


def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    # A container has no namespaces for the sandbox, and little shared memory.
    for argument in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1100,900", "--lang=en-US"]:
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(SHOTS), "download.prompt_for_download": False})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


class Page:
    def __init__(self, driver):
        self.driver = driver

    def wait(self, condition, what):
        return WebDriverWait(self.driver, WAIT, poll_frequency=0.05).until(lambda _: condition(), f"waited {WAIT} s for {what}")

    def find(self, css):
        found = [one for one in self.driver.find_elements(By.CSS_SELECTOR, css) if one.is_displayed()]
        return found[0] if found else None

    def seen(self, css):
        return self.wait(lambda: self.find(css), css)

    def text(self):
        return self.driver.find_element(By.TAG_NAME, "main").text

    def says(self, text):
        self.wait(lambda: text in self.text(), f"{text!r} on the page")

    def labelled(self, label):
        """The control that a label is of."""
        for one in self.driver.find_elements(By.TAG_NAME, "label"):
            if one.is_displayed() and one.text.strip() == label:
                target = one.get_attribute("for")
                return self.driver.find_element(By.ID, target) if target else one.find_element(By.TAG_NAME, "input")
        raise AssertionError(f"no label {label!r}")

    def button(self, name):
        """The button or link of an accessible name."""
        def look():
            for one in self.driver.find_elements(By.CSS_SELECTOR, "button, a, summary"):
                if one.is_displayed() and one.accessible_name.strip() == name:
                    return one
            return None
        return self.wait(look, f"a button {name!r}")

    def open(self, place):
        self.driver.get(f"{URL}/#/{place}")

    def keys(self, *keys):
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def judge(self, name):
        """Holds what is shown to axe's rules, in both sets of colours, and photographs it."""
        for theme in ["light", "dark"]:
            features = [{"name": "prefers-color-scheme", "value": theme}, {"name": "prefers-reduced-motion", "value": "reduce"}]
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            height = self.driver.execute_script("return document.documentElement.scrollHeight")
            self.driver.set_window_size(1100, min(max(800, height + 150), 3000))
            self.driver.execute_script(AXE)
            result = self.driver.execute_async_script(
                "const done = arguments[arguments.length - 1]; axe.run(document, {resultTypes: ['violations']}).then(done, (e) => done({violations: [{id: String(e), nodes: []}]}))"
            )
            broken = [f"{one['id']}: {[node['html'][:200] for node in one['nodes']]}" for one in result["violations"]]
            assert not broken, f"{name}, {theme}: {broken}"
            wide = self.driver.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{name}: {wide} pixels are beside the window"
            self.driver.save_screenshot(str(SHOTS / f"{name}-{theme}.png"))


def sign_in(page):
    page.open("convert")
    token = page.seen("#token")
    assert page.driver.switch_to.active_element == token, "the token's field has the focus"
    page.judge("sign-in")
    token.send_keys("tl_wrong", Keys.ENTER)
    page.wait(lambda: "not known" in page.find("#enter-error").text, "why the token was refused")
    token.send_keys(Keys.CONTROL, "a")
    token.send_keys(TOKEN, Keys.ENTER)
    page.wait(lambda: not page.find("#enter"), "the dialog to close")
    cookie = page.driver.get_cookie("transload_token")
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict", cookie
    stored = page.driver.execute_script("return document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)")
    assert TOKEN not in stored, "a script can read the token"
    page.wait(lambda: "signed in as tester" in page.driver.find_element(By.ID, "about").text, "who is signed in")


def drop(page, image):
    """Drops a file on the page, as the mouse does: the file is handed over by an input, the rest are the page's own events."""
    carrier = page.driver.execute_script(
        "const input = document.createElement('input'); input.type = 'file'; input.id = 'carrier'; document.body.append(input); return input"
    )
    carrier.send_keys(str(image))
    page.driver.execute_script(
        """const carrier = document.getElementById('carrier'); const data = new DataTransfer(); data.items.add(carrier.files[0]);
        const place = document.querySelector('.drop');
        for (const kind of ['dragenter', 'dragover', 'drop']) place.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
        carrier.remove()"""
    )


def convert(page, image):
    """Drops an image, converts it, and downloads what came of it."""
    page.seen("#target")
    page.wait(lambda: page.find("#target option"), "the formats")
    page.judge("convert")
    drop(page, image)
    page.says(image.name)
    name = page.labelled("Name")
    assert name.get_property("value") == f"{image.stem}.qcow2", name.get_property("value")
    name.clear()
    name.send_keys("from the browser/new.qcow2")
    page.seen("form button[type=submit]").click()
    page.says("new.qcow2 is there")
    page.judge("converted")
    hex = page.find(".digest").text
    page.button("Download").click()
    target = SHOTS / "new.qcow2"
    size = (ROOT / "from the browser" / "new.qcow2").stat().st_size
    page.wait(lambda: target.exists() and target.stat().st_size == size, "the download")
    return hex


def refuse(page):
    """A name that is taken is refused, in words, and the file that is there stays."""
    page.seen("form button[type=submit]").click()
    page.says("is there already")
    page.says("That did not work")
    page.judge("refused")


def look_inside(page, path):
    """Partitions and files of an image, by the keyboard."""
    page.open(f"image/{path}")
    name = path.rsplit("/", 1)[-1]
    page.wait(lambda: (page.find("h1") and page.find("h1").text) == name, name)
    page.says("Partitions")
    page.wait(lambda: page.find("[role=treeitem][tabindex='0']"), "the files")
    page.judge("image")
    first = page.find("[role=treeitem][tabindex='0']")
    page.driver.execute_script("arguments[0].focus()", first)
    items = page.driver.find_elements(By.CSS_SELECTOR, "[role=treeitem]")
    if len(items) > 1:
        page.keys(Keys.ARROW_DOWN)
        assert page.driver.switch_to.active_element == items[1], "an arrow goes to the next file"
        page.keys(Keys.HOME)
    assert page.driver.switch_to.active_element == first


def open_folder(page):
    """A folder of an image opens by an arrow, and closes."""
    folder = page.seen("[role=treeitem][aria-expanded='false']")
    page.driver.execute_script("arguments[0].focus()", folder)
    page.keys(Keys.ARROW_RIGHT)
    page.wait(lambda: folder.find_elements(By.CSS_SELECTOR, "[role=group] > [role=treeitem]"), "what is in the folder")
    page.keys(Keys.ARROW_RIGHT)
    assert page.driver.switch_to.active_element.get_attribute("aria-level") == "2"
    page.judge("tree")
    page.keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert folder.get_attribute("aria-expanded") == "false"


def files(page):
    page.driver.find_element(By.LINK_TEXT, "Files").click()
    page.seen("table")
    assert page.driver.switch_to.active_element.text == "Files", "the heading of what is shown has the focus"
    assert page.driver.find_element(By.LINK_TEXT, "Files").get_attribute("aria-current") == "page"
    page.judge("files")
    page.driver.find_element(By.LINK_TEXT, "from the browser").click()
    page.says("new.qcow2")


def job(page, path):
    """A file of the service becomes an image by a job, which is followed by its events."""
    page.open(f"convert/{path}")
    page.wait(lambda: page.labelled("Path").get_property("value") == path, "the path")
    Select(page.labelled("Format")).select_by_value("vmdk")
    page.seen("form button[type=submit]").click()
    page.says(".vmdk is there")


def fails_and_is_tried_again(page):
    page.open("convert")
    page.driver.find_element(By.CSS_SELECTOR, "input[value=server]").click()
    path = page.labelled("Path")
    path.clear()
    path.send_keys("nowhere.vmdk")
    name = page.labelled("Name")
    name.clear()
    name.send_keys("never.qcow2")
    page.seen("form button[type=submit]").click()
    page.says("That did not work")
    page.driver.find_element(By.LINK_TEXT, "Jobs").click()
    page.says("nowhere.vmdk")
    page.judge("jobs")
    page.button("Retry: Convert nowhere.vmdk").click()
    page.wait(lambda: "failed" in page.find(".jobs li").text and page.button("Retry: Convert nowhere.vmdk"), "the second failure")
    Select(page.labelled("State")).select_by_value("done")
    page.wait(lambda: "nowhere.vmdk" not in page.text(), "the jobs that are done")
    page.find(".jobs h2 a").click()
    page.says("Everything about it, in JSON")
    page.judge("job")


def by_keyboard(page):
    """From the top of the page to the button, by Tab alone."""
    page.open("files")
    page.open("convert")
    page.driver.refresh()
    page.wait(lambda: page.find("#target option"), "the formats")
    names = []
    for _ in range(30):
        page.keys(Keys.TAB)
        active = page.driver.switch_to.active_element
        names.append(active.accessible_name.strip() or active.tag_name)
        outline = active.value_of_css_property("outline-style")
        if active.get_attribute("type") == "submit":
            break
        if active.get_attribute("id") not in ("file",) and active.get_attribute("type") != "radio":
            assert outline != "none", f"{names[-1]} has the focus, and nothing shows it"
    assert names[0] == "Skip to the content" and names[-1] == "Convert", names
    assert any("Drop a disk image here" in name for name in names), names


def sign_out(page):
    page.button("Sign out").click()
    page.seen("#token")
    assert page.driver.get_cookie("transload_token") is None


def quiet(driver):
    """What the browser complained of, but for the statuses of failures that were provoked."""
    said = [entry for entry in driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]
    return [entry["message"] for entry in said if "Failed to load resource: the server responded with a status of 4" not in entry["message"]]


def main():
    driver = browser()
    page = Page(driver)
    try:
        sign_in(page)
        print("digest", convert(page, IMAGE))
        refuse(page)
        look_inside(page, "from%20the%20browser/new.qcow2")
        look_inside(page, "disk.qcow2")
        open_folder(page)
        files(page)
        job(page, "disk.qcow2")
        fails_and_is_tried_again(page)
        by_keyboard(page)
        driver.set_window_size(390, 844)
        page.open("convert")
        driver.save_screenshot(str(SHOTS / "narrow.png"))
        sign_out(page)
        complaints = quiet(driver)
        assert not complaints, complaints
    except BaseException:
        driver.save_screenshot(str(SHOTS / "failure.png"))
        print(page.text(), file=sys.stderr)
        print(driver.get_log("browser"), file=sys.stderr)
        raise
    finally:
        driver.quit()


main()
