const lakehouse = {
  // Light or dark: the system's way until somebody chooses, then theirs.
  applyTheme() {
    document.documentElement.style.colorScheme = localStorage.getItem("lakehouse-theme") ?? "light dark";
  },
  toggleTheme() {
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const now = localStorage.getItem("lakehouse-theme") ?? system;
    localStorage.setItem("lakehouse-theme", now === "dark" ? "light" : "dark");
    this.applyTheme();
  },
  // The address says what is filtered; going back to another one shows that.
  search: location.search,
  filter(address) {
    history.pushState({}, "", address);
    this.search = location.search;
  },
};
lakehouse.applyTheme();
addEventListener("popstate", () => {
  if (location.search !== lakehouse.search) location.reload();
});
