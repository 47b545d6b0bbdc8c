(function () {
  var made = Number(document.documentElement.dataset.made), limit = Number(document.documentElement.dataset.stale);
  var ago = document.getElementById("ago"), stale = document.getElementById("stale-age");
  function words(s) {
    if (s < 60) return s + " s";
    if (s < 3600) return Math.floor(s / 60) + " min";
    if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor(s % 3600 / 60) + " min";
    return Math.floor(s / 86400) + " d " + Math.floor(s % 86400 / 3600) + " h";
  }
  function look() {
    var age = Math.max(0, Math.round((Date.now() - made) / 1000)), old = age > limit;
    ago.textContent = " (" + words(age) + " ago)";
    stale.textContent = words(age);
    document.documentElement.classList.toggle("stale", old);
    if (old && document.title.indexOf("STALE") !== 0) document.title = "STALE · " + document.title;
  }
  look();
  setInterval(look, 1000);
})();
