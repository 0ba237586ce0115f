"""Routes from providers: adapters of `core.geo.routing.Provider`, and who calls them within bounds (`calling`)."""
