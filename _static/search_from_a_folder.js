/* A page that was opened from a folder may not read the others, so its search results come without
   excerpts. From a server they come with them. */
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
