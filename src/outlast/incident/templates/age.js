"use strict";
// What a page that nobody renews must say by itself: how old it is, and that a promised update is late.
(() => {
  const minutes = (from) => Math.floor((Date.now() - Date.parse(from)) / 60000);
  const tell = () => {
    for (const place of document.querySelectorAll("[data-age]")) {
      const old = minutes(place.dataset.age);
      const relative = new Intl.RelativeTimeFormat(document.documentElement.lang, { numeric: "always" });
      place.textContent = old < 60 ? relative.format(-old, "minute") : relative.format(-Math.floor(old / 60), "hour");
      const warning = document.querySelector("[data-old]");
      if (warning) warning.hidden = old < 30;
    }
    for (const place of document.querySelectorAll("[data-due]")) {
      if (Date.parse(place.dataset.due) > Date.now()) continue;
      place.classList.add("late");
      place.querySelector("[data-word]").textContent = place.dataset.late;
    }
  };
  tell();
  setInterval(tell, 30000);
})();
