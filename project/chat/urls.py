"""URLs of the chat."""

from django.contrib.auth.views import LogoutView
from django.urls import path, register_converter

from project.chat import views
from project.chat.rooms import RoomConverter

register_converter(RoomConverter, "room")

urlpatterns = [
    path("", views.chat, name="chat"),
    path("login/", views.LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("rooms/<room:room>/", views.chat, name="room"),
    path("rooms/<room:room>/messages", views.RoomMessages.as_view(), name="room-messages"),
    path("orders/<str:user_id>/notice", views.OrderNotice.as_view(), name="order-notice"),
]
